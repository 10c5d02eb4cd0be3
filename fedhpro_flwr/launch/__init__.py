"""Hands the app to Flower, to a simulation of its own or a SuperLink with real nodes, and finds out how the run ended.

Plain `flwr run` exits 0 when the run failed. Here a run is submitted, followed and asked afterwards how it ended.
"""
