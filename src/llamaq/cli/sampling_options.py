"""The options of sampling and of structured output, and the settings that they amount to."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from llamaq.boundary.files import read_text
from llamaq.cli.options import Parser, at_least, number
from llamaq.cli.prompt import unescaped

if TYPE_CHECKING:
    from llamaq.sampling import SamplingParams
    from llamaq.structure import Structure

__all__ = ["SAMPLING", "add_sampling", "sampling_params"]

_ORDER = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"


class _Number(NamedTuple):
    """An option that gives one number to one field of ``SamplingParams``."""

    field: str
    flags: tuple[str, ...]
    kind: Callable[[str], float]
    default: float
    about: str


_NUMBERS = (
    _Number("temperature", ("--temp", "--temperature"), number, 0.8, "0 takes the most likely token each time"),
    _Number("top_k", ("--top-k",), int, 40, "only the N most likely; 0: off"),
    _Number("top_p", ("--top-p",), number, 0.95, "only the most likely that together reach N; 1: off"),
    _Number("min_p", ("--min-p",), number, 0.05, "only those at least N times as likely as the first; 0: off"),
    _Number("typical_p", ("--typical", "--typical-p"), number, 1.0,
            "only those of nearly average surprise that together exceed N; 1: off"),
    _Number("top_n_sigma", ("--top-nsigma", "--top-n-sigma"), number, -1.0,
            "only those at most N standard deviations below the greatest logit; -1: off"),
    _Number("xtc_probability", ("--xtc-probability",), number, 0.0, "how often the top choices are excluded; 0: never"),
    _Number("xtc_threshold", ("--xtc-threshold",), number, 0.1, "what makes a top choice; above 0.5: off"),
    _Number("repeat_last_n", ("--repeat-last-n",), int, 64,
            "how many of the latest tokens the penalties look at; 0: off, -1: all"),
    _Number("repeat_penalty", ("--repeat-penalty",), number, 1.0, "make tokens of the latest text less likely; 1: off"),
    _Number("presence_penalty", ("--presence-penalty",), number, 0.0, "take N off the logits of these; 0: off"),
    _Number("frequency_penalty", ("--frequency-penalty",), number, 0.0, "the same, for each time they came; 0: off"),
    _Number("dry_multiplier", ("--dry-multiplier",), number, 0.0,
            "penalty of tokens that prolong a repetition (DRY); 0: off"),
    _Number("dry_base", ("--dry-base",), number, 1.75, "by what it grows with each token of the repetition"),
    _Number("dry_allowed_length", ("--dry-allowed-length",), int, 2, "longest repetition that costs nothing more"),
    _Number("dry_penalty_last_n", ("--dry-penalty-last-n",), int, 64, "how many tokens DRY looks at; 0: off, -1: all"),
    _Number("dynatemp_range", ("--dynatemp-range",), number, 0.0,
            "temperature from T-N to T+N, as the entropy is; 0: off"),
    _Number("dynatemp_exponent", ("--dynatemp-exp",), number, 1.0, "to what power the entropy counts in that"),
    _Number("mirostat", ("--mirostat",), int, 0, "1 or 2: that version of Mirostat in place of the chain; 0: off"),
    _Number("mirostat_eta", ("--mirostat-lr",), number, 0.1, "how fast Mirostat learns"),
    _Number("mirostat_tau", ("--mirostat-ent",), number, 5.0, "bits of surprise that Mirostat aims at"),
    _Number("adaptive_target", ("--adaptive-target",), number, -1.0,
            "prefer tokens whose probability is near N, and keep their average there; -1: off"),
    _Number("adaptive_decay", ("--adaptive-decay",), number, 0.9, "how long that average remembers, up to 0.99"),
)  # fmt: skip


SAMPLING = tuple(name for option in _NUMBERS for name in option.flags)
"""The options of one number each."""


def add_sampling(parser: Parser) -> None:
    """All of them."""
    add = parser.add_argument_group("sampling (docs/sampling.md)").add_argument
    add(
        "-s",
        "--seed",
        metavar="N",
        type=at_least(-1),
        default=-1,
        help="one seed gives one text, on every SIMD level and thread count; -1: a random one (default -1)",
    )
    for option in _NUMBERS:
        about = f"{option.about} (default {option.default:g})"
        add(*option.flags, metavar="N", type=option.kind, dest=option.field, help=about)
    add(
        "--dry-sequence-breaker",
        metavar="TEXT",
        action="append",
        help="ends a repetition for DRY; may be repeated; 'none': there is none (default newline, colon, quote, star)",
    )
    add("--samplers", metavar="NAMES", help=f"what is applied, in which order (default {_ORDER})")
    add("--sampler-seq", "--sampling-seq", metavar="LETTERS", help="the same by letters (default edskypmxt)")
    add("-l", "--logit-bias", metavar="ID(+|-)BIAS", type=_bias, action="append", default=[],
        help="add to a token's logit, e.g. 15043+1; 15043-inf forbids it; may be repeated")  # fmt: skip
    add("--ignore-eos", action="store_true", help="let no end token come")
    _add_structure(parser)


def _add_structure(parser: Parser) -> None:
    group = parser.add_argument_group("structured output (docs/structured-output.md)")
    add = group.add_mutually_exclusive_group().add_argument
    add("--grammar", metavar="TEXT", help="a grammar that the text follows: GBNF, or Lark after a line %%llguidance {}")
    add("--grammar-file", metavar="FILE", help="the same from a file")
    add("-j", "--json-schema", metavar="SCHEMA", help="a JSON schema that the text follows; {} for any JSON object")
    add("-jf", "--json-schema-file", metavar="FILE", help="the same from a file")


def sampling_params(args: argparse.Namespace, defaults: SamplingParams | None = None) -> SamplingParams:
    """What the options say, and ``defaults`` where they say nothing; ``ValueError`` for a value out of range,
    ``StructureError`` for a structure that cannot be used, ``OSError`` for a file that cannot be read."""
    from llamaq.sampling import SamplingParams

    defaults = defaults or SamplingParams()
    given = {option.field: getattr(args, option.field) for option in _NUMBERS}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    breakers = args.dry_sequence_breaker
    if breakers is not None:
        breakers = [unescaped(text) for text in breakers] if args.escape else breakers
        values["dry_sequence_breakers"] = [text for text in breakers if text != "none"]
    if args.sampler_seq is not None or args.samplers is not None:
        values["samplers"] = args.samplers.split(";") if args.sampler_seq is None else _letters(args.sampler_seq)
    return replace(
        defaults,
        **values,
        logit_bias=dict(args.logit_bias),
        ignore_eos=args.ignore_eos,
        structure=_structure(args),
        seed=defaults.seed if args.seed < 0 else args.seed,
    )


def _letters(text: str) -> list[str]:
    from llamaq.sampling import SAMPLER_LETTERS

    wrong = [letter for letter in text if letter not in SAMPLER_LETTERS]
    if wrong:
        known = ", ".join(f"{name} ({letter})" for letter, name in SAMPLER_LETTERS.items())
        raise ValueError(f"--sampler-seq: there is no sampler {wrong[0]!r}; there are {known}")
    return [SAMPLER_LETTERS[letter] for letter in text]


def _structure(args: argparse.Namespace) -> Structure | None:
    grammar, schema = args.grammar, args.json_schema
    if args.grammar_file is not None:
        grammar = read_text(args.grammar_file)
    if args.json_schema_file is not None:
        schema = read_text(args.json_schema_file)
    if grammar is None and schema is None:
        return None
    from llamaq.structure import gbnf, json_object, json_schema, lark

    if grammar is not None:
        return lark(grammar) if grammar.startswith("%llguidance") else gbnf(grammar)
    return json_object() if schema.strip() == "{}" else json_schema(schema)


def _bias(text: str) -> tuple[int, float]:
    found = re.fullmatch(r"([0-9]+)([+-].+)", text)
    try:
        if found is not None:
            return int(found[1]), float(found[2])
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a token id and a bias, as 15043+1 or 15043-inf, got {text!r}")
