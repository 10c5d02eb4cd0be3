"""A `flwr` with its answers written down, for `fedhpro run --superlink`."""

# A `flwr` that answers from a list, and notes what it was asked; with an answer in a list it interrupts who asks first.
FAKE = """#!{python}
import json, os, pathlib, shutil, signal, sys
here = pathlib.Path(__file__).parent
if sys.argv[1] == "log":
    sys.stderr.write("x" * 200_000)  # more than a pipe holds
    print("Using SuperLink\\n\\x1b[92mINFO\\x1b[0m: round")
    played = here / "played"
    if played.exists():
        print(played.read_text())
    sys.exit()
answers = json.loads((here / "answers.json").read_text())
asked = here / "asked.jsonl"
number = len(asked.read_text().splitlines()) if asked.exists() else 0
config = pathlib.Path(sys.argv[sys.argv.index("--run-config") + 1]).read_text() if sys.argv[1] == "run" else ""
with asked.open("a") as file:
    print(json.dumps([sys.argv[1], config]), file=file)
kind, answer = answers[number]
assert kind == sys.argv[1], (number, kind, sys.argv)
if isinstance(answer, list):
    os.kill({pid}, signal.SIGINT)
    (answer,) = answer
if answer == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
print(json.dumps(answer))
"""
TAKEN = ("run", {"success": True, "run-id": "77"})
STOPPED = ("stop", {"success": True})
AWAY = {"success": False, "error-message": "Using SuperLink: x\n\nConnection to the SuperLink is unavailable. Please"}
NOT_TAKEN = ("run", {"success": False, "error-message": "Using SuperLink: x\n\n[code: 9] No."})
UNKNOWN = ("ls", {"success": False, "error-message": "Using SuperLink: x\n\n[code: 16] Run ID not found."})


def state(status, details=""):
    return ("ls", {"success": True, "runs": [{"status": status, "status-details": details}]})


COMPLETED = state("finished:completed")
NO_HEARTBEAT = state("finished:failed", "No heartbeat received from the task")
BY_SIGNAL = state("finished:failed", "Task failed with unknown error.")


def failed(sentence):
    return state("finished:failed", f"ServerApp failed with exception: {sentence}")
