"""Passes go on across epochs, and begin anew when steps and positions part."""

import types

from keras_secure.training.pass_positions import PassPositions


class Run:
    """Stands for an optimizer that executes what it is told to."""

    def __init__(self, steps=3, pass_length=5):
        self.optimizer = types.SimpleNamespace(phase_steps=0, is_exhausted=False)
        self.opened = 0
        self.positions = PassPositions(self.optimizer, steps, pass_length, self.open)

    def open(self):
        self.opened += 1
        self.optimizer.phase_steps = 0

    def epoch(self, executed=3):
        self.positions.on_epoch_begin(0)
        self.optimizer.phase_steps += executed
        return self.positions.position


def test_epochs_follow_each_other():
    run = Run()
    assert [run.epoch() for _ in range(4)] == [0, 3, 6, 9]
    assert run.opened == 0


def test_a_new_phase_begins_with_a_pass_of_its_own():
    run = Run()
    assert [run.epoch(), run.epoch(2), run.epoch()] == [0, 3, 10]
    assert run.opened == 1
    assert [run.epoch(), run.epoch()] == [13, 16]
    assert run.opened == 1


def test_a_restored_counter_begins_a_phase():
    run = Run()
    run.epoch()
    run.optimizer.phase_steps = 0
    assert run.epoch() == 5
    assert run.opened == 1


def test_without_a_budget_nothing_is_opened():
    run = Run()
    run.epoch()
    run.epoch(1)
    run.optimizer.is_exhausted = True
    assert run.epoch(0) == 6
    assert run.opened == 0
    run.optimizer.is_exhausted = False
    assert run.epoch() == 10
    assert run.opened == 1
