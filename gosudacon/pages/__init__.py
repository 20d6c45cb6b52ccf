"""What a browser shows of plans and traces: HTML and SVG, made from values alone.

May use: `base`; no other package of ours.
Start with `view`, what the page and the picture of a plan are made from, and `markup`, what all of them share.
"""
