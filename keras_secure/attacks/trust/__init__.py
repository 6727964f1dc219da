"""The probes behind `keras_secure.attacks.trust_check`, one a file.

Each probe is a function from a `Subject` to one `Finding`: of severity `"ok"` where nothing speaks
against the figure, `"low"` for what a reader should know, and `"high"` where the figure cannot be
believed.
"""
