"""What a round calls (server_app/strategy.py): who plays the clients, what they are sent, which replies count."""
