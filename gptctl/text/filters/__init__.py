"""One filter a file; the file's name is the filter's public name.

A filter has a `Config` with its thresholds and `reasons(text, config)`: why each document is dropped, null where it
stays. A filter that rewrites documents has `rewrite(text, config)` instead, which gives the new texts and the reasons.
"""
