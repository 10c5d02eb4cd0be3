"""Handing the app to Flower: a simulation of one's own, or a SuperLink that serves real nodes; and how the run ended.

Plain `flwr run` exits 0 when the run failed. Here a run is submitted, followed and asked afterwards how it ended.
"""
