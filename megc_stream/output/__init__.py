"""What a run writes into its folder, and recordings of streams. Few need all of it: import the modules."""
