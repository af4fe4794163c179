"""Events: things that come, fall, grow or spin, one to three in a row, as records, captions and
frames.

Each event is shown alone, for 13 frames in seven poses. The first, the middle and the last pose are
held for three frames. So six evenly spaced frames of a clip show the same poses after two events
are exchanged, or when the clip plays backwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

from PIL import Image

from data_prep.mini.caption_styles import capital
from data_prep.mini.pictures import SEED, TRIES
from data_prep.mini.scenes import BACKGROUNDS, compose, draw_codes, ink_on, paint_background
from data_prep.mini.things import Name, Thing

POSES = 7  # in an event
HELD = (0, 0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 6)  # the pose in each frame of an event
FPS = 10  # frames a second
TRAIN, VAL, TEST = 2000, 500, 1000  # clips
PAIRS = 300  # contrast pairs of each kind
SIDE = 0.5  # side of a thing, as a share of the picture's side
BACKWARDS = {"comes": "goes", "falls": "rises", "grows": "shrinks", "crosses": "crosses"}
BACKWARDS |= {after: before for before, after in BACKWARDS.items()}
ACTIONS = (*dict.fromkeys(BACKWARDS), "spins")
# actions with a side: where a thing comes from, goes to, starts
SIDED = ("comes", "goes", "crosses")
OTHER_SIDE = {"left": "right", "right": "left"}
WORDS = {  # how captions say an action; {0} is the side, {1} the other one
    "comes": ("comes from the {0}", "enters from the {0}"),
    "goes": ("leaves to the {0}", "goes away to the {0}"),
    "crosses": ("moves from {0} to {1}", "crosses from {0} to {1}"),
    "falls": ("falls", "drops down"),
    "rises": ("rises", "goes up"),
    "grows": ("grows", "gets bigger"),
    "shrinks": ("shrinks", "gets smaller"),
    "spins": ("spins", "turns around"),
}


@dataclass(frozen=True)
class Event:
    """What one thing does: its code, its drawing's style, an action, and a side if the action has
    one.
    """

    code: str
    style: str
    action: str
    side: str = ""

    def backwards(self) -> Event:
        """Return the event that this one looks like when played backwards."""
        side = OTHER_SIDE[self.side] if self.action == "crosses" else self.side
        return replace(self, action=BACKWARDS[self.action], side=side)


@dataclass(frozen=True)
class Clip:
    """One clip: its id, its split, its background, its events one after the other, and its
    captions.
    """

    id: str
    split: str
    ground: str  # its background; the name is a key of records.jsonl
    events: tuple[Event, ...]
    seed: int
    whole: tuple[str, ...]  # captions of everything that happens
    moments: tuple[str, ...]  # captions of one event
    backwards: bool = False  # whether the frames of the events are played backwards

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions, those of the whole first."""
        return self.whole + self.moments


def pose(event: Event, number: int) -> tuple[float, float, float, float]:
    """Return x, y, side (shares of the picture's side) and turn (degrees) in a pose."""
    done = number / (POSES - 1)
    if event.action in ("goes", "rises", "shrinks"):
        event, done = event.backwards(), 1 - done
    x, y, side, turn = 0.5, 0.5, SIDE, 0.0
    if event.action in SIDED:
        end = 1.0 if event.action == "crosses" else 0.5
        x = end * done if event.side == "left" else 1 - end * done
    elif event.action == "falls":
        y = 0.1 + 0.65 * done
    elif event.action == "grows":
        side = 0.15 + 0.65 * done
    else:
        turn = 360 * number / POSES
    return x, y, side, turn


def frames_of(
    clip: Clip, size: int, drawing: Callable[[Event, str, int], Image.Image]
) -> Iterator[tuple[int, Image.Image]]:
    """Yield (number of frames, RGB picture [size, size]) for each different frame of a clip.

    drawing: returns the RGBA drawing of an event in an ink and a pose.
    """
    background, ink = paint_background(clip.ground, clip.seed, size), ink_on(clip.ground)
    slow = 2 if len(clip.events) == 1 else 1
    for event in clip.events:
        # reuse the frames of the forward partner
        shown = event.backwards() if clip.backwards else event
        for number in reversed(range(POSES)) if clip.backwards else range(POSES):
            x, y, side, turn = pose(shown, number)
            sprite = drawing(shown, ink, number)
            if turn:
                turned = sprite.rotate(-turn, Image.Resampling.BILINEAR, expand=True)
                sprite, side = turned, side * turned.width / sprite.width
            yield slow * HELD.count(number), compose(background.copy(), [(sprite, x, y, side)])


def say(event: Event, name: Name, chance: random.Random) -> str:
    """Describe an event: `a fox comes from the left`."""
    return f"{name.one()} {chance.choice(WORDS[event.action])}".format(
        event.side, OTHER_SIDE.get(event.side)
    )


def describe_clip(
    background: str, events: Sequence[Event], lexicon: dict[str, Thing], chance: random.Random
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return two captions of the whole (without the background for three events), and one of each
    moment.
    """

    def spoken(event: Event) -> str:
        return say(event, chance.choice(lexicon[event.code].names), chance)

    def where() -> str:
        return chance.choice(BACKGROUNDS[background].phrases)

    first, second = ", then ".join(map(spoken, events)), " and then ".join(map(spoken, events))
    if len(events) < 3:
        first, second = f"{first} {where()}", f"{where()}, {second}"
    whole = (first, f"{capital(second)}.")
    moments = tuple(
        f"{spoken(event)} {where()}" if chance.random() < 0.6 else spoken(event) for event in events
    )
    return whole, moments


def draw_events(
    chance: random.Random, things: Sequence[Thing], split: str, count: int
) -> tuple[Event, ...]:
    """Draw `count` events of a split, each with a different thing."""
    by_code, events = {thing.code: thing for thing in things}, []
    for code in draw_codes(chance, list(by_code), split, count):
        action = chance.choice(ACTIONS)
        side = chance.choice(list(OTHER_SIDE)) if action in SIDED else ""
        events.append(Event(code, chance.choice(by_code[code].styles(split)), action, side))
    return tuple(events)


def draw_clips(lexicon: dict[str, Thing]) -> dict[str, list[Clip]]:
    """Draw the clips of `mini-msrvtt` and of its contrast pairs; no training caption is one of val,
    test or the pairs.
    """
    known = [thing for thing in lexicon.values() if not thing.is_new]
    held: set[str] = set()
    clips: list[Clip] = []
    contrasts = _draw_pairs(known, lexicon)
    held |= {caption for clip in contrasts for caption in clip.whole}
    for split, count in (("test", TEST), ("val", VAL), ("train", TRAIN)):
        drawn = _described(known, split, lexicon, held, random.Random(f"{SEED} clips {split}"))
        part = [
            Clip(f"{split}-{n:04d}", split, *one)
            for n, one in zip(range(count), drawn, strict=False)
        ]
        if split != "train":
            held |= {caption for clip in part for caption in clip.captions}
        clips = part + clips
    return {"mini-msrvtt": clips, "mini-msrvtt-twins": contrasts}


def _described(
    things: Sequence[Thing],
    split: str,
    lexicon: dict[str, Thing],
    held: Set[str],
    chance: random.Random,
) -> Iterator[tuple]:
    """Yield background, events, seed and captions of random clips without captions in `held`."""
    while True:
        events = draw_events(chance, things, split, chance.choices((1, 2, 3), (30, 45, 25))[0])
        background, seed = chance.choice(list(BACKGROUNDS)), chance.randrange(2**31)
        for _ in range(TRIES):
            whole, moments = describe_clip(background, events, lexicon, chance)
            if held.isdisjoint(whole + moments):
                yield background, events, seed, whole, moments
                break


def _draw_pairs(things: Sequence[Thing], lexicon: dict[str, Thing]) -> list[Clip]:
    """Draw pairs: `order-000-b` has the events of `-a` exchanged, `direction-000-b` plays `-a`
    backwards.
    """
    clips = []
    for kind, count in (("order", 2), ("direction", 1)):
        chance, number = random.Random(f"{SEED} {kind}"), 0
        while number < PAIRS:
            events = draw_events(chance, things, "test", count)
            if kind == "direction" and events[0].action == "spins":
                continue
            others = events[::-1] if kind == "order" else (events[0].backwards(),)
            background, seed = chance.choice(list(BACKGROUNDS)), chance.randrange(2**31)
            names = {event.code: chance.choice(lexicon[event.code].names) for event in events}
            words = {}
            for event in {*events, *others}:
                words[event] = say(event, names[event.code], random.Random(f"words {number}"))
            for letter, own in zip("ab", (events, others), strict=True):
                caption = ", then ".join(words[event] for event in own)
                back = kind == "direction" and letter == "b"
                clips.append(
                    Clip(
                        f"{kind}-{number:03d}-{letter}",
                        "test",
                        background,
                        own,
                        seed,
                        (caption,),
                        (),
                        back,
                    )
                )
            number += 1
    return clips
