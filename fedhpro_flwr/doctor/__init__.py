"""`fedhpro doctor`: is this machine ready to run a simulation, a SuperLink or a SuperNode?

A check is a function `Subject -> Finding | None` (None: there is nothing to check) in one of these files, listed in
`checks.CHECKS`. Torch is imported only by checks, because a torch that cannot be imported is a finding.
"""
