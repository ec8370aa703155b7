"""What `surgery plugins new` writes, for a plugin called ember."""
