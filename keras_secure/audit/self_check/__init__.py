"""A self-check that users can run: promises of private training, and proof that they are tested."""

from keras_secure.audit.self_check.run import SelfCheckReport, run_self_check

__all__ = ["SelfCheckReport", "run_self_check"]
