"""Models of workloads that were never measured, and the file they are shipped in."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cost_models import device_models as files
from cost_models.dataset import Dataset
from cost_models.energy import PowerModel
from cost_models.errors import BadModels
from cost_models.latency import slowdown_prior
from cost_models.quality import spearman
from cost_models.transfer import TransferModel
from tests.device_rows import DeviceRows, device_models, device_rows


@pytest.fixture(scope="module")
def rows() -> DeviceRows:
    return device_rows(10)


@pytest.fixture(scope="module")
def models(rows: DeviceRows) -> files.DeviceModels:
    return device_models(rows.of(rows.groups < 9))


def test_an_unseen_workload_is_ordered_and_its_size_is_met(
    rows: DeviceRows, models: files.DeviceModels
) -> None:
    new = rows.of(rows.groups == 9)
    for model, values in ((models.power, new.power_w), (models.latency, new.latency_us)):
        predicted = np.exp(model.predict(new.late).mean)
        found = spearman(values, predicted)
        assert found is not None
        assert found > 0.9
        assert np.abs(predicted / values - 1.0).mean() < 0.2


def test_latency_is_predicted_without_knowing_it(
    rows: DeviceRows, models: files.DeviceModels
) -> None:
    from cost_models.features import FEATURE_NAMES, RATE_NAMES

    hidden = rows.late.copy()
    hidden[:, [FEATURE_NAMES.index(name) for name in RATE_NAMES]] = np.nan
    np.testing.assert_array_equal(
        models.latency.predict(hidden).mean, models.latency.predict(rows.late).mean
    )


def test_errors_are_those_on_unknown_workloads_and_have_two_parts(rows: DeviceRows) -> None:
    # A level of its own for each workload, which no feature tells.
    level = np.array([1.0, 1.3, 0.8, 1.1, 0.7, 1.2, 0.9, 1.25, 0.85, 1.0])[rows.groups]
    model = TransferModel("power")
    model.fit(rows.late, rows.power_w * level, rows.groups, rows.latency_us)
    assert 0.1 < model.level_error < 0.4
    assert model.within_error < 0.5 * model.level_error


def test_two_workloads_teach_nothing(rows: DeviceRows) -> None:
    few = rows.of(rows.groups < 2)
    model = TransferModel("power")
    model.fit(few.late, few.power_w, few.groups, few.latency_us)
    assert not model.is_fitted


def test_equal_rows_give_equal_bits(rows: DeviceRows, models: files.DeviceModels) -> None:
    again = device_models(rows.of(rows.groups < 9))
    np.testing.assert_array_equal(
        models.power.predict(rows.late).mean, again.power.predict(rows.late).mean
    )


class TestPrior:
    def test_it_answers_before_anything_is_measured(
        self, rows: DeviceRows, models: files.DeviceModels
    ) -> None:
        new = rows.of(rows.groups == 9)
        model = PowerModel(prior=models.power)
        assert model.is_fitted
        answer = model.predict(new.energy_rows())
        found = spearman(new.energies_mj, answer.mean)
        assert found is not None
        assert found > 0.9
        assert (answer.spread > 0.0).all()

    def test_a_few_measurements_take_the_shared_error_away(
        self, rows: DeviceRows, models: files.DeviceModels
    ) -> None:
        new = rows.of(rows.groups == 9)
        hungry = 1.5 * new.energies_mj
        model = PowerModel(prior=models.power)
        model.fit(new.of(np.arange(3)).energy_rows(), hungry[:3])
        error = model.predict(new.energy_rows()).mean / hungry - 1.0
        assert np.abs(error).mean() < 0.1

    def test_cold_and_warm_models_meet_after_few_rows(
        self, rows: DeviceRows, models: files.DeviceModels
    ) -> None:
        new = rows.of(rows.groups == 9)
        known, rest = np.arange(8), np.arange(8, 24)
        cold, warm = PowerModel(), PowerModel(prior=models.power)
        for model in (cold, warm):
            model.fit(new.of(known).energy_rows(), new.energies_mj[known])
        errors = [
            np.abs(model.predict(new.of(rest).energy_rows()).mean / new.energies_mj[rest] - 1.0)
            for model in (cold, warm)
        ]
        # What work costs is learnt exactly from eight rows of a device without noise.
        assert max(one.mean() for one in errors) < 0.02

    def test_own_costs_and_a_prior_have_equal_say_from_twelve_rows_on(
        self, rows: DeviceRows, models: files.DeviceModels
    ) -> None:
        new = rows.of(rows.groups == 9)

        def learnt(n_rows: int, model: PowerModel) -> np.ndarray:
            known = np.arange(n_rows)
            model.fit(new.of(known).energy_rows(), new.energies_mj[known])
            return model.predict(new.energy_rows()).mean

        prior = learnt(11, PowerModel(prior=models.power))
        assert np.all(prior != learnt(11, PowerModel()))
        own, both = learnt(12, PowerModel()), learnt(12, PowerModel(prior=models.power))
        corrected = both**2 / own
        # What is left of the average is the prior with the mean of the task: nearly as before.
        np.testing.assert_allclose(corrected, prior, rtol=0.05)


class TestFile:
    def test_models_answer_as_before_and_equal_ones_make_equal_files(
        self, rows: DeviceRows, models: files.DeviceModels, tmp_path: Path
    ) -> None:
        for name in ("a", "b"):
            files.write_models(models, tmp_path / name)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        found = files.read_models(tmp_path / "a")
        assert found.training == models.training
        for one, other in ((found.power, models.power), (found.latency, models.latency)):
            np.testing.assert_array_equal(
                one.predict(rows.late).mean, other.predict(rows.late).mean
            )
            assert one.within_error == other.within_error

    def test_slow_downs_of_a_space_are_kept_by_its_name_and_width(
        self, rows: DeviceRows, models: files.DeviceModels, tmp_path: Path
    ) -> None:
        early = np.ascontiguousarray(rows.late[:, :5])
        prior = slowdown_prior(Dataset(features=early, values=rows.latency_us, groups=rows.groups))
        files.write_models(replace(models, slowdown={("knobs", 5): prior}), tmp_path / "a")
        found = files.read_models(tmp_path / "a").slowdown
        assert set(found) == {("knobs", 5)}
        np.testing.assert_array_equal(
            found["knobs", 5].predict(early).mean, prior.predict(early).mean
        )

    def test_it_holds_xgboosts_own_format_and_no_pickle(
        self, models: files.DeviceModels, tmp_path: Path
    ) -> None:
        import xgboost

        files.write_models(models, tmp_path / "a")
        with zipfile.ZipFile(tmp_path / "a") as archive:
            names = archive.namelist()
            assert all(name == files.CARD or name.endswith(".ubj") for name in names)
            xgboost.Booster().load_model(bytearray(archive.read("power-0.ubj")))

    def test_a_booster_that_changed_is_refused(
        self, models: files.DeviceModels, tmp_path: Path
    ) -> None:
        files.write_models(models, tmp_path / "a")
        with (
            zipfile.ZipFile(tmp_path / "a") as old,
            zipfile.ZipFile(tmp_path / "b", "w") as new,
        ):
            for name in old.namelist():
                data = old.read(name)
                new.writestr(name, data[:-1] + b"?" if name == "power-1.ubj" else data)
        with pytest.raises(BadModels, match=r"checksum of power-1\.ubj"):
            files.read_models(tmp_path / "b")

    def test_models_for_other_features_are_refused(
        self, models: files.DeviceModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files.write_models(models, tmp_path / "a")
        monkeypatch.setattr(files, "FEATURES_VERSION", files.FEATURES_VERSION + 1)
        with pytest.raises(BadModels, match="train-models"):
            files.read_models(tmp_path / "a")

    def test_a_file_that_is_none_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"nothing")
        with pytest.raises(BadModels, match="cannot read models"):
            files.read_models(tmp_path / "a")
