"""Jobs: what workers claim, report on and give back."""
