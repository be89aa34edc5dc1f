"""Pools: parts of sentences, drawn afresh at each use, that stand in any story. What they say never matters later."""

from __future__ import annotations

from . import words
from .grammar import listed, paragraphs

WEATHERS = listed("""
    windy, foggy, quiet, sunny, grey, warm, cool, breezy, hazy, still, rainy, bright, misty, cloudy, stormy, mild,
    drizzly, golden, fresh, blustery, calm, fine
""")
WHENS = (
    *["one {weather} [morning|afternoon|evening|day]"] * 5,
    *["one {weather} [Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday]"] * 2,
    *["[early|late] one {weather} [morning|afternoon|evening]"] * 2,
    *[when for when in words.TIMES if "winter" not in when and "spring" not in when and "summer" not in when],
)
MEANWHILE = listed("""
    when the bells were ringing, while the kettle was boiling, after a long rain, when the wind came from the sea,
    while the neighbours were still asleep, when there was nothing else to do, just after breakfast, before the
    shops had opened, when the air smelled of {smells}, while {somebody} was {doing} {places}, while {sounds}, when
    {sounds}, just after {somebody} had come by with some {pocket}, while {somebody} was {doing}
""")
SMELLS = listed("""
    hay, rain, pine trees, smoke, wet leaves, apples, roses, fresh bread, salt, honey, warm stones, mint, cut grass,
    moss, soap, cinnamon, old books, mushrooms, lavender, snow, wood shavings, onions, pancakes, tar
""")
SOUNDS = listed("""
    a dog was barking, the frogs were singing, a cart was rattling past, a cock was crowing, a door was banging, the
    wind was humming in the wires, an owl was calling, the bees were buzzing, a train was whistling, a gate was
    creaking, a saw was singing, the church bell was ringing, somebody was laughing, a flute was playing, the geese
    were chattering, water was dripping, a woodpecker was knocking, the crickets were chirping, a baby was crying, a
    broom was sweeping, a horse was neighing, somebody was beating a carpet, the leaves were rustling, a donkey was
    braying
""")
DOING = listed("""
    singing, mending a net, eating {foods}, hanging up the washing, reading a newspaper, sweeping the steps, peeling
    potatoes, painting a fence, picking berries, feeding the hens, counting {pocket}, looking for a {trinket},
    chopping wood, flying a kite, playing the {music}, carrying a basket of {pocket}, telling jokes, washing a
    window, sleeping in the sun, chasing a hat, watering the beans, dancing, arguing with a {animal}, practising the
    {music}, drawing a {animal}, polishing a {trinket}
""")
MUSIC = listed("drum, flute, violin, trumpet, harp, horn, piano, guitar, accordion, whistle, tuba, cello")
POCKET = listed("""
    nuts, buttons, pebbles, cherries, acorns, marbles, feathers, shells, string, plums, chestnuts, coins, seeds,
    corks, crumbs, peas, dried apples, keys, raisins, leaves, walnuts, pencils, corn, blackberries, ribbons, nails
""")
FEELINGS = listed("""
    light as a feather, happy as a lark, free as a bird, warm as toast, proud as a king, quick as a fish, busy as a
    bee, fresh as the morning, strong as a bear, cheerful as a sparrow, quiet as a stone, curious as a kitten, merry
    as a cricket, brave as a lion
""")
HIDING = listed("""
    in {h.their} pocket, under a bush, on a wall, in a bag, behind a tree, on the window sill, in the grass, on a
    flat stone, under {h.their} hat, in an old jar, on a fence post, in a hollow log, beside the path
""")
SKETCHES = listed("""
    a very small {animal}, the moon in a hat, a {colours} {animal}, a long journey, a ship full of {pocket}, a house
    made of {foods}, a {animal} who could play the {music}, a {trinket} that could talk, a sky full of {pocket}, a
    giant with a {trinket}, {sights}, a {animal} on a bicycle, an island of {foods}, a {traits} {animal}
""")
# These are what somebody does who says something.
GESTURES = (
    " and looked at {sights}, where {somebody} was {doing}", ", while {somebody} {places} was {doing}",
    " and pointed at {somebody} with a {trinket}", " and thought of {foods} and {dream}",
    " and sat down beside a {looks} {trinket}", " and took some {pocket} out of a {colours} {container}",
    " and nearly stumbled over a {looks} {trinket}", " and felt as {feeling}", ", while {sounds}",
    " and put down a {colours} {container} full of {pocket}",
)  # fmt: skip
CONTAINERS = listed("bag, box, jar, basket, tin, pouch, sack, bottle, bowl")
POOLS: dict[str, tuple[str, ...]] = {
    "weather": tuple(WEATHERS),
    "smells": tuple(SMELLS),
    "sounds": tuple(SOUNDS),
    "doing": tuple(DOING),
    "music": tuple(MUSIC),
    "pocket": tuple(POCKET),
    "feeling": tuple(FEELINGS),
    "hiding": tuple(HIDING),
    "container": tuple(CONTAINERS),
    "dream": tuple(SKETCHES),
    "foods": tuple(words.FOODS),
    "places": tuple(words.PLACES.values()),
    "sights": tuple(words.SIGHTS),
    "colours": tuple(words.COLOURS),
    "looks": (*words.COLOURS, *words.LOOKS),
    "trinket": tuple(words.THINGS),
    "traits": tuple(words.TRAITS),
    "arts": tuple(words.ARTS),
    "animal": tuple(kind for home in ("wood", "farm", "water", "cold", "warm") for kind in words.KINDS[home]),
    "somebody": ("a {animal}", "a {traits} {animal}", "an old {animal}", "a {town}", "a {traits} {town}"),
    "town": tuple(kind.replace("_", " ") for kind in words.KINDS["town"]),
    "meanwhile": tuple(MEANWHILE),
    "gesture": tuple(GESTURES),
    "wearing": ("", "", "", "", "", " in a {colours} {dress}", " in a {looks} {dress} [and|with] a {colours} {dress2}"),
    "dress": tuple(listed("coat, shawl, apron, jacket, cloak, waistcoat, shirt, pullover")),
    "dress2": tuple(listed("hat, cap, scarf, bow tie, belt, ribbon, button, flower, feather")),
}

# These happen in the background: they fit between any two paragraphs.
AMBIENT = paragraphs("""
    Somewhere {places}, {sounds}.

    Far away, {somebody} was {doing}, and {sounds}.

    Somewhere {places}, {somebody} was {doing}.

    The air smelled of {smells} and {smells}.

    The wind brought a smell of {smells}, and somewhere {sounds}.

    A {colours} [butterfly|moth|bird|dragonfly] flew past on its way to {sights}.

    {Somebody} walked by with a {looks} {trinket} and a bag of {pocket}.

    [In the distance|Far off], one could see {sights}, and {sounds}.

    {Somebody} went past, {doing2}.

    A cloud that looked like a {animal} with a {trinket} went across the sky.
""")
POOLS["doing2"] = tuple(
    listed("""
    whistling a tune, humming a song about a {animal}, counting {pocket}, talking about {foods}, carrying a {looks}
    {trinket}, pushing a cart full of {pocket}, pulling a sled with a {trinket} on it, eating {foods}, dreaming of
    {sights}, talking to a {looks} {trinket}, looking for {pocket}
""")
)
# These are what a day looks like before the story begins.
HABITS = paragraphs("""
    From {h.their} window {h.they} could see {sights}, and in the evening [{h.they} could hear that {sounds}|the air
    smelled of {smells}].

    On the wall hung a picture of {sights}, and on the table stood a {looks} {trinket}.

    {h.Their} favourite colour was {colour}, and {h.their} favourite food was {foods}.

    Next door lived a {traits} {animal} who was always {doing}.

    [On Sundays|In the evenings|On rainy days], {h.they} [played cards|drank tea|sang songs|ate {foods}|talked about
    {dream}] with a {traits} {animal}.

    {h.They} was [good at {art}|famous for {art}|proud of {art}], but [bad at|hopeless at|no good at] {art2}.

    [Every morning|Each day], {h.they} [ate some {foods}|sang a song about {dream}|swept the floor|polished a {looks}
    {trinket}|counted {pocket}] [before breakfast|and then went for a walk|and looked at {sights}].

    {h.They} liked nothing better than {foods} [and {arts}|and good stories|and {dream}].

    {h.They} collected {pocket} and pictures of {sights}, and kept them in a {looks} [box|jar|bag|trunk|drawer].

    {h.They} could play the {music}, and {h.they} often sang about {dream}.

    The whole place smelled of {smells} [and {smells}|all year round|whenever it rained], and [day and night|every
    evening|in the morning] {sounds}.

    In the garden grew {plants} and {plants2}, and among them stood a {looks} {trinket}.
""")
POOLS["plants"] = tuple(listed("roses, beans, tulips, cabbages, poppies, onions, daisies, pumpkins, violets, carrots"))
POOLS["plants2"] = tuple(listed("nettles, peas, lilies, strawberries, sunflowers, leeks, mint, radishes, ferns, herbs"))
# These happen on the way; a plot says ``{scene}``.
SCENES = paragraphs("""
    On the way {h.they} saw {sights}, {somebody} with a {trinket}, and a heap of {pocket}.

    {h.They} passed {sights} and heard that {sounds}.

    {h.They} picked up a {looks} [stone|leaf|feather|button|shell|nail|stick], looked at it and put it {hiding}.

    {h.They} felt as {feeling} and sang a song about {dream}.

    {h.They} stopped to eat some {foods}, while {somebody} {places} was {doing}.

    [The path|The way] led past {sights}, and the air smelled of {smells}.

    "[Good day|Hello|Good morning]!" called {somebody} who was {doing}. "[Fine weather for {arts}!|Mind the
    {animal}!|Do not forget your {foods}!|Have you seen my {trinket}?]"

    {h} thought of {foods}, of {sights} and of {dream}, and felt as {feeling}.

    In {h.their} bag {h.they} had {foods}, a {looks} {trinket} and some {pocket}.
""")
# These are how an evening ends.
EVENINGS = paragraphs("""
    That night {h.they} dreamed of {dream} and of {sights}.

    That night {h.they} dreamed of {dream}.

    That evening {h} ate {foods}, felt as {feeling} and looked at {sights}.

    In the evening, when {sounds}, {h} went to bed and felt as {feeling}.

    And while {sounds}, {h} fell asleep with a {looks} {trinket} beside the pillow.

    {h} told the story to everybody, even to {somebody} who was {doing}.

    At supper there was {foods}, and {h} sang a song about {dream}.
""")
