"""The GPU, the cores and the memory."""

from __future__ import annotations

import os
from pathlib import Path

from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject

GB = 1_000_000_000
CLIENT_MEMORY = 1.2 * GB  # the most that a client process needs, see docs/speed.md
GPU_MEMORY = 2 * GB  # to be free on the card, for a ResNet-10 at batch size 64 and the CUDA context
DRIVER = Path("/proc/driver/nvidia/version")
MEMINFO = Path("/proc/meminfo")
CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # flags of x86 processors that multiply in bfloat16
CONTAINER_MEMORY = Path("/sys/fs/cgroup")  # of this container, if there is one


def gpu(subject: Subject) -> Finding | None:
    """Does torch see the GPU that is there, and is memory free on it?"""
    import torch  # takes seconds

    if torch.cuda.is_available():
        devices = [
            (torch.cuda.get_device_name(i), *torch.cuda.mem_get_info(i)) for i in range(torch.cuda.device_count())
        ]
        found = ", ".join(f"{name} ({free / GB:.1f} of {total / GB:.1f} GB free)" for name, free, total in devices)
        if all(free < GPU_MEMORY for _, free, _ in devices):
            return warning(
                "gpu", found, "end what holds the card's memory (`nvidia-smi` lists it) or set device = 'cpu'"
            )
        return ok("gpu", found)
    if not DRIVER.exists():
        faster = (
            '; it has bfloat16: local.precision = "bfloat16" trains convolutions faster' if cpu_has_bfloat16() else ""
        )
        return ok("gpu", f"none; everything runs on the CPU{faster}")
    if torch.version.cuda is None:
        return problem(
            "gpu",
            f"a driver is there, but torch {torch.__version__} was built without CUDA",
            "install a torch with CUDA from the index pytorch.org names for this driver, or set device = 'cpu'",
        )
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return warning("gpu", "hidden by CUDA_VISIBLE_DEVICES", "unset CUDA_VISIBLE_DEVICES to use it")
    return problem(
        "gpu",
        f"a driver is there, but torch's CUDA {torch.version.cuda} does not start",
        "compare with the CUDA version in the head of `nvidia-smi`: update the driver or take an older torch",
    )


def cpu_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16, as far as Linux says."""
    flags = [line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")] if CPUINFO.exists() else []
    return bool(flags) and not BFLOAT16.isdisjoint(flags[0].split())


def memory(subject: Subject) -> Finding | None:
    """Is there memory for the client processes: one at a SuperNode, one for every core in a simulation?"""
    cores, free = usable_cores(), free_memory()
    if free is None:
        return None
    processes = cores + 1 if subject.role == "simulation" else 1  # Ray starts one a core, beside the server's process
    needed = processes * CLIENT_MEMORY
    found = f"{cores} cores, {free / GB:.1f} GB of memory free; {needed / GB:.1f} GB wanted, 1.2 a process"
    if free < CLIENT_MEMORY:
        return problem("memory", found, "free some memory: not even one client process fits")
    if free < needed:
        return warning("memory", found, "take `fedhpro run --engine in-process`, which is one process")
    return ok("memory", found)


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that are free on this machine, or in this container; None if there is no way to know."""
    if not MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    try:
        limit, used = ((CONTAINER_MEMORY / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return min(free, int(limit) - int(used)) if limit.isdecimal() else free
