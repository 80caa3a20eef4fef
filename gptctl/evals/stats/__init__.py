"""Statistics that know nothing of evaluation: bootstrap resampling, confidence intervals, tests of paired samples."""
