"""What a result is compared with: another system, baselines, an earlier result, thresholds."""
