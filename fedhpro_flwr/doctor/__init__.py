"""`fedhpro doctor`: is this machine ready to run a simulation, a SuperLink or a SuperNode?

A check is a function `Subject -> Finding | None` (None: there is nothing to look at) in one of these files, entered in
`checks.CHECKS`. Nothing here imports torch before a check does: a torch that does not import is a finding.
"""
