"""What a visit calls (client_app/visit.py): a client's data, its steps, what it keeps and what it withholds."""
