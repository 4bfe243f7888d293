"""What a consumer gets and leaves: the doors that it stands between, and the forms of what goes through."""
