"""What the steps of quests.py are drawn from: parts that belong together in one dict. Each is drawn once per story."""

from __future__ import annotations

from ..words import COLOURS, KINDS, LOOKS, THINGS


def one_of(words: list[str]) -> str:
    """A choice, in the words of grammar.py."""
    return f"[{'|'.join(words)}]"


def cases(keys: str, text: str) -> tuple[dict[str, str], ...]:
    """Dicts of ``keys`` from lines with the parts between semicolons."""
    lines = (line.strip() for line in text.strip().splitlines())
    return tuple(dict(zip(keys.split(), (part.strip() for part in line.split(";")), strict=True)) for line in lines)


ASKERS = tuple(
    {"kind": kind, "who": f"{one_of(['a_ {traits}', 'a_ {traits}', 'an old', 'a_'])} {kind}", "the": f"the {kind}"}
    for home, kinds in KINDS.items()
    for kind in (kind.replace("_", " ") for kind in kinds)
)
WARES = tuple(
    {"noun": noun, "ware": f"a_ {one_of([*COLOURS, *LOOKS])} {noun}", "wname": f"the {noun}"} for noun in THINGS
)
NEEDS = cases(
    "need help",
    """
    was stuck in a bramble bush; pulled the thorns out, one by one
    could not cross the brook; laid a plank across it
    had a splinter in one foot; took it out and washed the foot
    was looking for a pair of glasses; found them under a leaf
    had dropped a basket of {pocket}; picked up every one of them
    could not read a long letter; read it aloud
    wanted to move a heavy stone; pushed until it rolled away
    had a knot in a long rope; worked until the knot came open
    was too small to reach the apples; shook the tree
    could not get a kite out of a tree; climbed up and fetched it
    had lost the way to {sights}; drew a map in the sand
    was carrying far too many bags; took the two biggest ones
    could not open a jar of plum jam; turned the lid until it went pop
    was crying about a broken cup; glued it with resin
    could not fall asleep; sang a quiet song about {dream}
    had the hiccups; told a joke, and the hiccups were gone
    was thirsty; fetched water in a big leaf
    had a cart with a loose wheel; knocked a peg into it
    was afraid of {somebody}; walked along for a while
    could not remember a song; hummed it from beginning to end
    """,
)
GIFTS = cases(
    "gift trouble use",
    """
    whistle; a thick fog lay over everything; {h.They} blew it as hard as {h.they} could, and {f} came out of the fog.
    lantern; it was as dark as a cellar; {h.They} lit it and saw the path as if it were day.
    rope; the bridge had fallen into the gorge; {h.They} tied it to a tree and swung across.
    feather; an angry bull stood in the way; {h.They} tickled the bull with it until it laughed and rolled over.
    bell; a flock of sheep blocked the whole road; {h.They} rang it, and all the sheep trotted aside.
    umbrella; the rain came down in buckets; {h.They} opened it and walked on, quite dry.
    plank; there was a wide ditch; {h.They} laid it over the ditch and went across.
    mirror; a grumpy troll wanted to fight; {h.They} held it up, the troll saw an even grumpier troll, and ran away.
    blanket; an icy wind began to blow; {h.They} wrapped it around {h.self} and did not feel the cold.
    bone; a big dog growled at the gate; {h.They} threw it over the fence, and the dog wagged its tail.
    key; the garden gate was locked; {h.They} tried it in the lock, and it fitted.
    honey pot; a bear was sitting on the path; {h.They} put it down under a tree, and the bear went there at once.
    drum; a hundred crows sat on the fence and would not move; {h.They} beat it, and all of them flew away.
    bucket; a little fire was burning in the dry grass; {h.They} filled it at the brook and put out the fire.
    boat of bark; the path was under water; {h.They} sat down in it and paddled with both hands.
    stick; the swamp was deep and soft; {h.They} felt the ground with it before each step and came across.
    ball of string; there were a hundred paths among the bushes; {h.They} unrolled it so as not to walk in a circle.
    """,
)
BAIT = tuple(
    {"some": f"a {bag} of {what}"}
    for bag in ("bag", "jar", "basket", "box", "handful")
    for what in ("nuts", "cherries", "blackberries", "raisins", "plums", "walnuts", "dried apples", "shells", "marbles")
)
INGREDIENTS = (
    "carrots", "onions", "potatoes", "turnips", "peas", "beans", "leeks", "mushrooms", "barley", "cabbage", "parsley",
    "pumpkin", "noodles", "tomatoes", "beetroot", "nettles", "garlic", "lentils", "corn", "celery", "rice", "dumplings",
    "chestnuts", "pepper", "cheese", "radishes", "basil", "spinach", "apples", "ginger",
)  # fmt: skip
PETS = cases(
    "pet habit",
    """
    snail; slept in a shoe
    kitten; purred like a little motor
    beetle; could walk on the ceiling
    hamster; rolled itself into a ball
    goldfinch; sang when it rained
    tortoise; walked around the table every day
    lizard; liked to lie in the sun
    mouse; could balance on a pencil
    frog; jumped over every chair
    caterpillar; ate holes into all the newspapers
    puppy; carried everything away
    duckling; followed everybody to the gate
    guinea pig; whistled for breakfast
    cricket; chirped all night long
    """,
)
HIDEOUTS = tuple(
    f"{one_of(['under', 'behind', 'next to'])} the {what}"
    for what in (
        "bed", "stove", "bench", "wood pile", "big pot", "old cupboard", "flower pots", "ladder", "rain barrel", "sofa",
        "bookcase", "wash tub", "apple boxes", "broom", "umbrella stand", "hen house", "bee hive", "hay cart",
    )
)  # fmt: skip
CRUMBS = (
        "crumbs of {food}", "three long white hairs", "the shell of a nut", "a torn ticket", "a trail of sand",
        "pine needles",
        "the peel of an orange", "a wet footprint", "little wood shavings", "half a biscuit", "a black feather",
        "a grey feather", "the core of an apple", "bits of straw", "a cherry stone", "green wool", "red wool",
        "blue thread",
        "a page of music", "candle wax", "a paper crown", "yellow petals", "peppermint paper", "a broken pencil",
)  # fmt: skip
STAINS = (
    "red paint", "blue paint", "green paint", "white flour", "black soot", "yellow mud", "brown mud", "sticky honey",
    "plum jam",
    "chalk", "ink", "glue", "soap", "cobwebs", "sawdust", "wet clay",
)  # fmt: skip
SHOWS = (
    "stood on one leg and played the {music}", "ate {foods} with both eyes closed", "juggled with {pocket}",
    "danced with a_ {looks} {trinket}", "pulled a_ {colours} {trinket} out of a hat", "built a tower of {pocket}",
    "painted {sights} in one minute", "sang like a_ {animal}", "showed a_ {looks} {trinket} from a far land",
    "walked on a rope with a_ {looks} {trinket}", "told a poem about {dream}", "made a_ {animal} out of {pocket}",
    "whistled and played the {music} at the same time", "balanced a_ {trinket} on the nose", "jumped over {pocket}",
    "did a trick with a_ {trinket} and some {pocket}", "barked and crowed and neighed", "showed a dance about {dream}",
)  # fmt: skip
VERDICTS = [
    "that came from the heart", "I forgot the time", "I could see it all before me", "I have never heard the like",
    "I want to hear it again", "even the {animal} listened", "a small thing can be the greatest", "nobody looked away",
]  # fmt: skip
GADGETS = tuple(
    {"gadget": f"a machine that {verb}", "gname": f"A machine that {verb}", "works": works}
    for verb, works in (
        ("cooks {food}", "puffed, and out came a plate of {food}"),
        ("makes the beds", "shook the pillows and made the beds"),
        ("picks apples", "stretched out an arm and picked the first apple"),
        ("flies", "rose into the air and flew around the chimney"),
        ("sweeps the floor", "swept the floor from wall to wall"),
        ("paints fences", "painted the fence with {colour} stripes"),
        ("tells the weather", "rang twice, and it began to rain"),
        ("plays the {music1}", "played the {music1}, a little out of tune"),
        ("waters the garden", "hummed and watered all the beans"),
        ("tickles people", "tickled both of them until they begged it to stop"),
        ("rolls up hills", "rolled up the hill all by itself"),
        ("peels potatoes", "peeled a bucket of potatoes"),
        ("sings", "sang a song about {dream}"),
        ("makes bubbles", "blew bubbles as big as pumpkins"),
        ("catches dreams", "hummed, and they could see a dream of {dream}"),
    )
)
FORMS = ["an old", "a broken", "a rusty", "a long", "a small", "a big", "a wooden", "a round"]
PARTS = tuple(
    {"part": f"{one_of(FORMS)} {what}", "pname": f"the {what}"}
    for what in (
        "wheel", "pipe", "spring", "kettle", "bicycle chain", "umbrella", "funnel", "clock", "chair leg", "lamp",
        "bell",
        "tin can", "propeller", "crank", "barrel", "broom", "bath tub", "pulley", "trumpet", "sail", "ladder", "spoon",
        "bed frame", "fan", "hose", "drawer", "sewing machine", "magnet", "plank", "lever",
    )
)  # fmt: skip
LANDMARKS = tuple(
    f"the {one_of(['old', 'crooked', 'white', 'tall', 'mossy', 'big', 'lonely', 'grey', 'black', 'broken'])} {what}"
    for what in ("tree", "stone", "gate", "post", "wall", "oak", "birch", "bench", "tower", "stump", "wheel", "statue")
)
