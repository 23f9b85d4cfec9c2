"""What a node offers of the settings, and what its values amount to."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from dspo_train.config import SETTINGS, TrainConfig, from_names
from dspo_train.config.forms import Overrides, inputs_of, read_form
from dspo_train.config.naming import names_in_graph, rendered
from dspo_train.config.setting import Form
from dspo_train.exceptions import ConfigError
from dspo_train.objectives import check_objective
from dspo_train.runs.presets import COMMON, PRESETS, configure

FORMS: tuple[Form, ...] = get_args(Form)
INPUTS = {form: {one.name: one for one in inputs_of(form)} for form in FORMS}
EVERYTHING = {
    "labels": "swapped",
    "keep": "best",
    "held_out_share": "0.1",
    "held_out_every": 10,
    "held_out_patience": "3",
    "ema": ".95",
    "sft_mix": "25e-2",
    "label_smoothing": " 0.1 ",
    "safeguard": 0.5,
    "margin_cap": "1E-3",
    "sharpness": "500",
    "moving_reference": "0.99",
    "min_snr": "5",
    "one_per_prompt": True,
    "least_noise": 0.2,
    "most_noise": 0.8,
    "word_budget": "0.05",
    "stepwise": "tailorpo_g",
    "stepwise_pool": "3",
    "stepwise_next": "random",
    "stepwise_push": "0.25",
}


def untouched(form: Form) -> dict[str, Any]:
    return {one.name: one.default for one in inputs_of(form)}


def test_nothing_chosen_is_the_run_as_it_is_without():
    assert from_names(read_form("options", untouched("options"))) == TrainConfig()
    given = {**untouched("train"), "pairs_at_once": COMMON["batch_size"], "accumulate": COMMON["accumulate"]}
    for preset in PRESETS:
        assert configure(preset, 1024, read_form("train", given)) == configure(preset, 1024, {})
    assert read_form("train", {}) == read_form("options", {}) == {}


def test_each_option_arrives_at_its_setting():
    assert set(EVERYTHING) == set(INPUTS["options"])
    train = read_form("train", {"resolution": "256", "flip": True, "training_seed": 7, "learning_rate": ""})
    config = configure("gentle", 512, {**train, **read_form("options", EVERYTHING)})
    assert (config.labels, config.keep, config.ema, config.moving_reference) == ("swapped", "best", 0.95, 0.99)
    held_out, loss, data = config.held_out, config.loss, config.data
    assert (held_out.share, held_out.every, held_out.patience) == (0.1, 10, 3)
    assert (loss.sft_mix, loss.label_smoothing, loss.safeguard, loss.margin_cap) == (0.25, 0.1, 0.5, 0.001)
    assert (loss.sharpness, loss.min_snr, loss.word_budget) == (500.0, 5.0, 0.05)
    assert (data.one_per_prompt, data.least_noise, data.most_noise) == (True, 0.2, 0.8)
    assert (data.resolution, data.flip, config.seed) == (256, True, 7)
    assert config.optim.lr == PRESETS["gentle"]["optim.lr"]
    assert config.stepwise.method == "tailorpo_g"
    assert (config.stepwise.plan.pool, config.stepwise.plan.next, config.stepwise.plan.push) == (3, "random", 0.25)


@pytest.mark.parametrize(("choice", "setting"), [("", None), ("off", None), ("auto", "auto"), ("1e3", 1000.0)])
def test_sharpness_is_off_automatic_or_a_number(choice: str, setting: Any):
    assert from_names(read_form("options", {**untouched("options"), "sharpness": choice})).loss.sharpness == setting


@pytest.mark.parametrize("form", FORMS)
def test_a_form_offers_no_number_that_the_library_refuses(form: Form):
    """Both ends are accepted; beyond them is what the setting's own range leaves out, where the form adds no limit."""
    needed = {"held_out_share": 0.1, "steps": 10**6, "stepwise": "tailorpo"}
    for name, one in INPUTS[form].items():
        if one.low is None or one.high is None:
            continue
        assert one.default == "" if one.empty else one.low <= one.default <= one.high
        for value in (one.low, one.high):
            configure("gentle", 512, read_form(form, {**needed, name: one.kind(value)}))
        declared = SETTINGS[one.setting]
        shown = declared.shown
        assert shown is not None and declared.low == one.low
        if shown.high is None:
            with pytest.raises(ConfigError, match=f"`{one.setting}` must be between"):
                from_names(read_form(form, {**needed, name: one.kind(one.high + 1)}))


@pytest.mark.parametrize("form", FORMS)
def test_places_and_names_are_taken_once(form: Form):
    places = [one.shown.place for one in SETTINGS.values() if one.shown is not None and one.shown.form == form]
    assert sorted(places) == list(range(len(places)))
    assert len(INPUTS[form]) == len(inputs_of(form))
    assert not set(INPUTS["train"]) & set(INPUTS["options"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keep": "best"}, "keep best needs pairs to measure on; set held_out_share, for example 0.1"),
        ({"held_out_patience": 3}, "held_out_patience needs pairs to measure on; set held_out_share, for example 0.1"),
        (
            {"least_noise": 0.6, "most_noise": 0.4},
            "least_noise 0.6 must be below most_noise 0.4; 0 and 1 draw from the whole schedule",
        ),
        (
            {"sharpness": "often"},
            "sharpness: 'often' is not a number or auto; write one such as 1000, or leave it empty for off",
        ),
        ({"labels": "mixed"}, "labels: unknown value 'mixed'; known: given, swapped"),
        ({"min_snr": 0.0001}, "min_snr must be between 0.001 and 1e+06, got 0.0001"),
    ],
)
def test_what_does_not_go_together_is_said_when_it_is_chosen_in_the_words_of_the_graph(
    given: dict[str, Any], words: str
):
    with pytest.raises(ConfigError) as caught:
        Overrides(read_form("options", given))
    assert rendered(str(caught.value), names_in_graph()) == words


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_input_or_the_blank_number_of_a_script_keeps_what_is_there(form: Form):
    written = [one for one in SETTINGS.values() if one.shown is not None and one.shown.form == form and one.shown.empty]
    assert len(written) == {"train": 3, "options": 13}[form]
    for one in written:
        shown = one.shown
        assert shown is not None
        name = shown.name or one.key
        assert INPUTS[form][name].default == ""
        assert f"Empty: {shown.empty}." in INPUTS[form][name].tooltip
        for blank in ("", "  ", shown.blank, str(shown.blank)):
            assert read_form(form, {name: blank}) == {}
        number = read_form(form, {name: shown.example})[one.name]
        assert number == float(shown.example)
        assert type(number) is one.kind
        assert read_form(form, {name: number})[one.name] == number, "scripts may send numbers"


@pytest.mark.parametrize("text", ["1e-4x", "0,0001", "nan", "inf", "1_000", "1e", "--1", "0x10", "\u0661", "1 2", "."])
def test_a_number_is_read_strictly(text: str):
    with pytest.raises(ConfigError) as caught:
        read_form("train", {"learning_rate": text})
    said = "is not a number; write one such as 1e-4, or leave it empty for the preset's"
    assert rendered(str(caught.value), names_in_graph()) == f"learning_rate: {text!a} {said}"


def test_a_count_has_no_fraction_and_is_not_endless():
    assert read_form("train", {"rank": "8.0", "resolution": "5e2"}) == {"lora.rank": 8, "data.resolution": 500}
    for text in ("8.5", "1e999"):
        with pytest.raises(ConfigError, match="is not a whole number; write one such as 16"):
            read_form("train", {"rank": text})


def test_the_node_shows_few_inputs_and_folds_the_others():
    assert [one.name for one in inputs_of("train") if not one.folded] == ["steps"]
    shown = [one.name for one in inputs_of("options") if not one.folded]
    assert shown == ["labels", "keep", "held_out_share", "held_out_patience", "ema"]


@pytest.mark.parametrize("given", [{"label_smoothing": 0.1}, {"safeguard": 0.5}, {"margin_cap": 0.001}])
def test_what_the_objective_cannot_use_is_said_with_it(given: dict[str, Any]):
    changes = {"objective": "sft", **read_form("options", given)}
    with pytest.raises(ConfigError, match=f"`loss.{next(iter(given))}` needs an objective that trains on the loser"):
        check_objective(configure("balanced", 512, changes))


def test_only_settings_are_renamed():
    names = {"lora.rank": "rank", "objective_args.beta": "objective_value"}
    message = "`lora.rank`, `optim.lr`, `objective_args.beta`, `objective_args.tau`, `lora.rnak` and `cat.txt`"
    assert rendered(message, names) == "rank, optim.lr, objective_value, objective_args.tau, `lora.rnak` and `cat.txt`"
    assert rendered("`lora.rank`") == "lora.rank"
