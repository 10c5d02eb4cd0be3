"""This machine's clock compared with the SuperLink's, which its `Date` header tells."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from fedhpro_flwr.doctor.contact import Answer
from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject

# Flower 1.41 and 1.42 (flwr/common/constant.py): a node signs the time, and the SuperLink refuses a time more than 5 s
# ahead of its own clock, or more than 305 s behind it.
MOST_AHEAD, MOST_BEHIND = 5.0, 305.0
FAR_OFF = 30.0  # seconds; a clock that is so wrong is not set by the network, and will drift further
SET_IT = "let the network set the clock of both machines, `timedatectl set-ntp true`"


def clock(subject: Subject) -> Finding | None:
    """How far this machine's clock is from the SuperLink's (or its proxy's), to half a second."""
    link = subject.superlink
    if link is None or not isinstance(link.hello, Answer) or "date" not in link.hello.headers:
        return None
    # The header's seconds are cut off to a whole number, so the true time is half a second later on average.
    theirs = parsedate_to_datetime(link.hello.headers["date"]).timestamp() + 0.5
    ahead = link.hello.at - theirs
    found = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the SuperLink's"
    if ahead > MOST_AHEAD or -ahead > FAR_OFF:
        limits = f"node authentication fails from {MOST_AHEAD:.0f} s ahead or {MOST_BEHIND:.0f} s behind"
        return problem("clock", f"{found}; {limits}", SET_IT)
    if ahead > MOST_AHEAD / 2:
        return warning("clock", f"{found}; node authentication fails from {MOST_AHEAD:.0f} s on", SET_IT)
    return ok("clock", found)
