"""What an optimizer with a ledger can say of the privacy it has spent."""

from typing import Any

from keras_secure.privacy import accounting, privacy_statement


class PrivacyReports:
    """Reports on the steps executed so far, over all phases.

    All take `accountant`, `"pld"` (tight, the default) or `"rdp"`, and `max_examples_per_user`, how
    many examples one user contributed at most: 1 protects single examples, more all of a user's.
    """

    ledger: Any
    executed_steps: Any

    def epsilon(self, target_delta, *, accountant="pld", max_examples_per_user=1):
        """Returns the epsilon spent so far, over all phases, at `target_delta`."""
        return accounting.epsilon(
            self._executed_phases(),
            target_delta,
            accountant=accountant,
            max_examples_per_user=max_examples_per_user,
        )

    def delta(self, target_epsilon, *, accountant="pld", max_examples_per_user=1):
        """Returns the delta that goes with `target_epsilon` for all that was spent so far."""
        return accounting.delta(
            self._executed_phases(),
            target_epsilon,
            accountant=accountant,
            max_examples_per_user=max_examples_per_user,
        )

    def privacy_curve(self, deltas=None, epsilons=None, **options):
        """Returns arrays of epsilons and deltas that all hold; see `privacy.privacy_curve`."""
        phases = self._executed_phases()
        return accounting.privacy_curve(phases, deltas=deltas, epsilons=epsilons, **options)

    def privacy_statement(self, target_delta, *, accountant="pld", max_examples_per_user=1):
        """Returns in plain words what was guaranteed, on what assumptions, and what is not."""
        return privacy_statement(
            self._executed_phases(),
            target_delta,
            accountant=accountant,
            max_examples_per_user=max_examples_per_user,
        )

    def _executed_phases(self):
        return self.ledger.phases(self.executed_steps)
