"""Linear models over words, which score texts fast: those that gptctl trains, and fastText's.

`gptctl finetune none DATA --task filter` trains one, and the filter `classifier` of `gptctl clean` uses it.
"""
