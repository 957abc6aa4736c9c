"""What logical clients do: send, consume, append and read, drain; and how answers become outcomes."""
