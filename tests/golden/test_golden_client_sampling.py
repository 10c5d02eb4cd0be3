"""The reference's draw of the clients of each round: one legacy generator for the whole run."""

from fedhpro_flwr.seeding import sample_partitions

GOLDEN = "client_sampling_s*.npz"


def test_client_sampling(golden):
    for turn, row in enumerate(golden.arrays["rounds"], start=1):
        drawn = sample_partitions(
            golden.integer("num_clients"),
            golden.integer("num_online"),
            seed=golden.integer("seed"),
            server_round=turn,
            sampling="stream",
        )
        assert drawn == row.tolist()
