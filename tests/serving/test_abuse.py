"""Detectors of abuse speak when they should, stay silent when they should, and forget in order."""

import numpy as np
import pytest
from scipy.stats import binom

from keras_secure.errors import InputError
from keras_secure.serving.abuse import DAWN, Coverage, DistanceDistribution, Drift, NearDuplicates
from keras_secure.serving.abuse.detector import Memory, as_rows, top_classes

KEY = b"sixteen secret b"
CLASSES = 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def answers(rng, count):
    return rng.dirichlet(np.ones(CLASSES), count)


class TestNearDuplicates:
    def test_natural_inputs_pass(self, rng):
        detector = NearDuplicates(repeats=1)
        for _ in range(20):
            assert detector.observe("a", rng.uniform(size=(10, 200))) is None

    def test_an_account_is_known_by_the_queries_of_others(self, rng):
        detector, x = NearDuplicates(repeats=5), rng.uniform(size=200)
        found = [
            detector.observe(f"account {i % 4}", (x + rng.normal(scale=1e-3, size=200))[None])
            for i in range(20)
        ]
        assert found[15] is None  # its first query resembled nothing
        assert found[17].evidence == {"identity": "account 1", "near_duplicates": 5, "inputs": 5}

    def test_what_is_long_ago_does_not_count(self, rng):
        detector, x = NearDuplicates(repeats=5, recent=10), rng.uniform(size=200)
        for _ in range(12):
            near = (x + rng.normal(scale=1e-3, size=200))[None]
            assert detector.observe("a", near) is None
            assert detector.observe("a", rng.uniform(size=(4, 200))) is None

    def test_changes_below_the_quantization_count_and_retries_do_not(self, rng):
        x = rng.uniform(0.4, 0.45, size=(1, 200))  # all in one level
        retries, tiny = NearDuplicates(repeats=3), NearDuplicates(repeats=3)
        said = [retries.observe("a", x) for _ in range(50)]
        assert said == [None] * 50
        assert [tiny.observe("a", x + i * 1e-6) for i in range(5)][-1] is not None

    def test_what_is_forgotten_leaves_nothing(self, rng):
        detector = NearDuplicates(memory=30, repeats=10**6)
        for _ in range(10):
            detector.observe("a", np.repeat(rng.uniform(size=(5, 60)), 2, axis=0))
        assert len(detector._queries) == 30
        kept = {value for fingerprint, _ in detector._queries for value in fingerprint.tolist()}
        assert set(detector._holders) == kept
        assert sum(detector._exact.values()) == 30

    def test_tokens_and_short_inputs(self, rng):
        detector, x = NearDuplicates(repeats=3), rng.integers(0, 5000, size=(1, 60))
        for place in range(8):
            changed = x.copy()
            changed[0, place] += 1
            found = detector.observe("a", changed)
        assert found is not None
        assert NearDuplicates().observe("a", rng.uniform(size=(3, 2))) is None

    def test_what_is_not_finite_is_no_crash(self):
        assert NearDuplicates().observe("a", np.array([[np.nan, np.inf, -np.inf] * 10])) is None

    @pytest.mark.parametrize(
        "bad", [{"levels": 0}, {"window": 1.5}, {"threshold": 0}, {"bounds": (1, 1)}]
    )
    def test_arguments(self, bad):
        with pytest.raises(InputError):
            NearDuplicates(**bad)


class TestDistanceDistribution:
    def thief(self, rng, count=300):
        seed = rng.normal(size=(20, 50))
        steps = 0.1 * np.sign(rng.normal(size=(count, 50)))
        return np.concatenate([seed, seed[rng.integers(20, size=count)] + steps])

    def test_the_batch_size_changes_nothing(self, rng):
        x = self.thief(rng)
        outputs = np.tile([[0.9, 0.1]], (len(x), 1))
        whole, single = DistanceDistribution(), DistanceDistribution()
        found = whole.observe("a", x, outputs)
        each = [single.observe("a", x[i : i + 1], outputs[:1]) for i in range(len(x))]
        lowest = min(each, key=lambda f: 1.0 if f is None else f.evidence["w"])
        assert found.evidence["w"] == pytest.approx(lowest.evidence["w"])

    def test_identities_are_apart(self, rng):
        detector, x = DistanceDistribution(), self.thief(rng)
        outputs = np.tile([[0.9, 0.1]], (len(x), 1))
        assert detector.observe("thief", x, outputs) is not None
        honest = rng.normal(size=(300, 50))
        assert detector.observe("honest", honest, outputs[:300]) is None

    def test_calibration_lets_honest_clients_pass(self, rng):
        def client():
            # Two kinds of inputs: distances of two sizes, far from normal.
            scale = np.where(rng.random(300) < 0.5, 0.1, 3.0)[:, None]
            return scale * rng.normal(size=(300, 20)), answers(rng, 300)

        flagged = [DistanceDistribution().observe("a", *client()) for _ in range(10)]
        assert any(flagged)
        calibrated = DistanceDistribution.calibrated([client() for _ in range(40)])
        assert sum(bool(calibrated.observe(str(i), *client())) for i in range(20)) <= 3

    def test_calibration_needs_enough(self, rng):
        streams = [(rng.normal(size=(20, 5)), answers(rng, 20))] * 30
        with pytest.raises(InputError, match="honest clients"):
            DistanceDistribution.calibrated(streams)

    def test_equal_distances_are_not_natural(self):
        x = np.eye(300)
        found = DistanceDistribution().observe("a", x, np.tile([[1.0, 0.0]], (300, 1)))
        assert found.evidence["w"] == 0.0


class TestCoverage:
    def test_false_alarms_of_many_honest_clients(self, rng):
        detector = Coverage(rng.normal(size=(4000, 10)), cells=20, share=1.0)
        found = [detector.observe(str(i), rng.normal(size=(200, 10))) for i in range(200)]
        assert all(f is None or f.id == "abuse.coverage" for f in found)

    def test_covered_cells_are_counted_once(self, rng):
        data = np.concatenate([rng.normal(size=(50, 2)) + 100 * i for i in range(4)])
        detector = Coverage(data, cells=4, share=0.75, natural=0.9)
        centre = [np.full((1, 2), 100.0 * i) for i in range(4)]
        assert detector.observe("a", centre[0]) is None
        assert detector.observe("a", centre[0]) is None
        assert detector.observe("a", centre[1]) is None
        assert detector.observe("a", centre[2]).evidence["covered"] == 0.75

    def test_too_little_data(self, rng):
        with pytest.raises(InputError, match="half"):
            Coverage(rng.normal(size=(20, 3)), cells=11)


class TestDrift:
    def test_false_alarms_are_as_rare_as_asked(self, rng):
        reference = answers(rng, 2000)
        detector = Drift(reference, window=100, p_value=0.2)
        found = [detector.observe("a", None, answers(rng, 100)) for _ in range(200)]
        # Bonferroni over dependent classes stays below, but is not idle either.
        assert 2 <= sum(f is not None for f in found) <= binom.ppf(1 - 1e-6, 200, 0.2)

    def test_windows_are_filled_over_requests(self, rng):
        detector = Drift(answers(rng, 1000), window=100)
        shifted = rng.dirichlet([8, 1, 1, 1], 100)
        found = [detector.observe("a", None, shifted[i : i + 10]) for i in range(0, 100, 10)]
        assert found[:-1] == [None] * 9
        assert found[-1].evidence["class"] == 0


class TestDAWN:
    def test_the_share_is_kept_and_answers_stay_answers(self, rng):
        dawn, x, outputs = DAWN(KEY, share=0.1), rng.uniform(size=(5000, 6)), answers(rng, 5000)
        marked = dawn.mark("a", x, outputs)
        changed = np.any(marked != outputs, axis=1)
        # One mark in CLASSES draws the class that was right.
        low, high = binom.interval(1 - 1e-9, 5000, 0.1 * (CLASSES - 1) / CLASSES)
        assert low <= changed.sum() <= high
        np.testing.assert_array_equal(np.sort(marked, axis=1), np.sort(outputs, axis=1))

    def test_the_same_question_gets_the_same_answer(self, rng):
        dawn, x, outputs = DAWN(KEY, share=0.5), rng.uniform(size=(50, 6)), answers(rng, 50)
        first = dawn.mark("a", x, outputs)
        np.testing.assert_array_equal(first, dawn.mark("b", x[::-1], outputs[::-1])[::-1])
        np.testing.assert_array_equal(first, DAWN(KEY, share=0.5).mark("c", x, outputs))
        assert np.any(first != DAWN(KEY[::-1], share=0.5).mark("a", x, outputs))

    def test_innocents_have_honest_p_values(self, rng):
        dawn, x = DAWN(KEY, share=1.0, decimals=9), rng.uniform(size=(4000, 6))
        outputs = answers(rng, 4000)
        for start in range(0, 4000, 100):
            dawn.mark(str(start), x[start : start + 100], outputs[start : start + 100])
        # An innocent model that agrees with ours wherever it can.
        truth = {row.tobytes(): output for row, output in zip(x, outputs, strict=True)}
        values = [
            dawn.verify(lambda rows: np.stack([truth[row.tobytes()] for row in rows]), [str(start)])
            for start in range(0, 4000, 100)
        ]
        assert 0.3 < np.mean([report.p_value for report in values]) < 0.7
        assert not any(report.claimed for report in values)

    def test_saved_marks_come_back(self, rng, tmp_path):
        dawn, x = DAWN(KEY, share=0.5), rng.uniform(size=(300, 6)).astype("float32")
        marked = dawn.mark("thief", x, answers(rng, 300))
        known = {row.tobytes(): answer for row, answer in zip(x, marked, strict=True)}
        dawn.save(tmp_path / "marks.npz")
        again = DAWN(KEY, share=0.5)
        again.restore(tmp_path / "marks.npz")
        report = again.verify(lambda rows: np.stack([known[row.tobytes()] for row in rows]))
        assert report.claimed
        assert report.matches == report.marks
        assert (tmp_path / "marks.npz").stat().st_mode & 0o077 == 0

    def test_nothing_marked_is_said(self):
        with pytest.raises(InputError, match="No input was marked"):
            DAWN(KEY).verify(lambda rows: rows)

    def test_arguments(self):
        with pytest.raises(InputError, match="16 secret bytes"):
            DAWN(b"short")
        with pytest.raises(InputError, match="2 classes"):
            DAWN(KEY).mark("a", np.zeros((3, 2)), np.zeros((3, 1)))


def test_strangers_cannot_fill_the_memory():
    memory = Memory(list, limit=100)
    for i in range(10_000):
        memory.of(str(i)).append(i)
    assert len(memory._states) == 100
    with pytest.raises(InputError):
        Memory(list, limit=0)


def test_rows_and_classes():
    rows = as_rows(np.array([[[np.nan, 1.0]], [[np.inf, 2.0]]]))
    np.testing.assert_array_equal(rows, [[0.0, 1.0], [0.0, 2.0]])
    np.testing.assert_array_equal(top_classes([[0.2], [0.7]]), [0, 1])
    np.testing.assert_array_equal(top_classes([[0.2, 0.8]]), [1])
