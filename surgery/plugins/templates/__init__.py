"""Templates of `surgery plugins new`. The name ember is replaced."""
