"""A trained network as a file that other programs run, and other programs as what runs it here."""
