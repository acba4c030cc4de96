"""What runs: one module a stage, in the order the data flows, plus the command line and the run directory."""
