"""Other programs' configurations, turned into ours."""
