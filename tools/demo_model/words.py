"""Word lists: who, what, where and when."""

from __future__ import annotations

from .grammar import listed

HOMES = {
    "wood": listed("""
    in a hollow tree at the edge of the wood, under the roots of an old oak, in a cosy den among the ferns, in the
    middle of a quiet forest, beneath a bramble bush, on a hill covered with pine trees, in a green valley full of
    birches, beside a mossy stone wall, where the forest meets the meadow
"""),
    "farm": listed("""
    on a farm with a red gate, in a barn that smelled of hay, in a sunny meadow behind the farmhouse, on a small
    farm at the end of a long lane, beside a field of yellow wheat, in an orchard full of apple trees
"""),
    "water": listed("""
    by a quiet pond, beside a river with tall reeds, near a lake as clear as glass, on the bank of a stony brook, on
    a small island in the river, close to an old water mill
"""),
    "cold": listed("""
    where the snow hardly ever melts, near a great blue glacier, on a shore of ice and grey stones, in a cave of
    snow and ice, beside a frozen bay
"""),
    "warm": listed("""
    on the edge of a wide and warm plain, in a jungle full of flowers, near a water hole with three palm trees, in
    the shade of a huge fig tree, between two golden hills
"""),
    "town": listed("""
    in a small house with a blue door, in a village by the sea, at the top of a narrow street, in a town with
    crooked chimneys, in a cottage with a garden full of beans, next to the old mill, above a little shop in the
    market square, in a white house near the harbour, at the foot of a windy hill
"""),
    "magic": listed("""
    in a cave high in the hills, in a crooked tower, behind a waterfall, in a castle that nobody visited, at the end
    of the rainbow bridge, in a forest where the trees whispered, in a house made of old boats
"""),
}

# Kinds by home; those that PRONOUN_OF lacks are "he" or "she". No more of them, and of names and things, than a small
# model can tell apart after a few million tokens: each must be met often before it is said again where it should be.
KINDS = {
    "wood": listed("""
    fox, rabbit, squirrel, hedgehog, badger, owl, mouse, bear, deer, mole, wolf, robin, beetle, raccoon, snail, crow,
    spider, ant
"""),
    "farm": listed("""
    cow, pig, sheep, goat, hen, duck, goose, horse, donkey, pony, cat, dog, kitten, puppy
"""),
    "water": listed("""
    frog, otter, turtle, beaver, swan, crab
"""),
    "cold": listed("""
    penguin, seal, reindeer
"""),
    "warm": listed("""
    lion, elephant, monkey, giraffe, zebra, camel, tiger, parrot, hippo, crocodile, kangaroo, panda
"""),
    "town": listed("""
    girl, boy, baker, farmer, sailor, gardener, painter, teacher, doctor, grandmother, grandfather, cook, astronaut,
    inventor
"""),
    "magic": listed("""
    dragon, giant, witch, wizard, knight, princess, prince, king, queen, fairy, ghost, robot, unicorn, pirate, snowman
"""),
}

PRONOUN_OF = {
    "girl": "she",
    "boy": "he",
    "grandmother": "she",
    "grandfather": "he",
    "witch": "she",
    "wizard": "he",
    "princess": "she",
    "prince": "he",
    "king": "he",
    "queen": "she",
    "robot": "it",
    "snowman": "he",
    "hen": "she",
    "cow": "she",
    "goose": "she",
}

TRAITS = listed("""
    shy, cheerful, curious, clever, sleepy, stubborn, gentle, proud, careful, forgetful, patient, quiet, lively,
    kind, dreamy, grumpy, polite, brave, young, old, merry, thoughtful, busy, lonely, hungry, noisy, friendly,
    honest, impatient, happy, wise, playful, nervous, bold, tidy, messy, hopeful, funny, good-natured
""")

NAMES = {
    "he": listed("""
    Tom, Ben, Max, Sam, Leo, Otto, Finn, Hugo, Emil, Felix, Milo, Theo, Jack, Peter, Bruno, Oliver, Henry, Pip, Ravi,
    Pablo, Ivan, Adam, Gus, Omar
"""),
    "she": listed("""
    Mia, Anna, Lily, Rosa, Ella, Ida, Clara, Nora, Emma, Tilda, Lucy, Alice, Ruby, Hazel, Ivy, Daisy, Frida, Molly,
    Poppy, Zoe, Leila, Yuki, Carmen, Olga
"""),
    "it": listed("""
    Bolt, Rusty, Zip, Dot
"""),
}

COLOURS = listed("""
    red, blue, green, yellow, white, black, silver, golden, brown, orange, purple, pink, grey, striped, spotted
""")

LOOKS = listed("""
    little, old, shiny, wooden, tiny, big, soft, new, heavy, strange, beautiful, round, painted
""")

THINGS = listed("""
    kite, drum, lantern, whistle, bell, map, book, ball, cup, umbrella, scarf, hat, button, key, basket, blanket, boat,
    clock, ring, coin, feather, box, mirror, pencil, rope, bucket, trumpet, balloon, crown, stone
""")

FOODS = listed("""
    apple pie, honey cake, pea soup, plum jam, fresh bread, cherry cake, nut bread, pumpkin soup, carrot stew, rice
    pudding, mushroom soup, ginger cake, corn bread, blackberry pie, onion soup, cheese toast, oat porridge, lemon
    cake, potato salad, pear tart, barley soup, raisin bread, strawberry jam, noodle soup
""")

PLACES = {
    "river": "by the river",
    "old bridge": "under the old bridge",
    "market": "at the market",
    "orchard": "in the orchard",
    "lighthouse": "near the lighthouse",
    "windmill": "behind the windmill",
    "wood": "in the wood",
    "meadow": "in the meadow",
    "beach": "on the beach",
    "hill": "on the hill",
    "pond": "by the pond",
    "garden": "in the garden",
    "cave": "in the cave",
    "mill": "next to the mill",
    "well": "beside the well",
    "castle": "near the castle",
    "school": "behind the school",
    "barn": "in the barn",
    "harbour": "down at the harbour",
    "tower": "at the foot of the tower",
    "waterfall": "below the waterfall",
    "crossroads": "at the crossroads",
    "library": "in the library",
    "station": "at the station",
    "old oak": "under the old oak",
    "cornfield": "in the cornfield",
    "swamp": "at the edge of the swamp",
    "stone circle": "in the stone circle",
    "ruins": "among the ruins",
    "island": "on the island",
}

TIMES = listed("""
    one morning, one windy afternoon, one evening, one day, one rainy day, early one morning, one sunny day, late
    one night, on the first day of spring, on a cold day in winter, one foggy morning, on a warm summer evening, one
    autumn day, on a Monday, on a Saturday, the day before the harvest, one quiet Sunday, just before sunset, after
    lunch one day, on the longest day of the year, one bright April day, on market day
""")

SIGHTS = listed("""
    a lighthouse, the blue hills, a field of poppies, three old windmills, a row of poplars, the roofs of the town,
    a winding road, snow on the mountains, boats on the water, a stone bridge, flocks of wild geese, a ruined tower,
    the edge of the forest, a train in the distance, the church clock, an island with one tree, smoke from a
    chimney, a herd of goats, the harbour lights, a garden full of tulips, the market square, a waterfall, two
    storks on a nest, a long white fence, the rising moon, kites in the sky, a crooked pear tree, a rainbow over the
    valley, a haystack as big as a house, sheep on a hillside, fishing nets in the sun, a merry-go-round, a field of
    sunflowers, a ship with red sails, rows of beehives, a castle on a rock, an old stone well, the first stars, a
    frozen lake, clouds like feathers
""")

ARTS = listed("""
    riddles, telling jokes, making soup, mending socks, finding mushrooms, playing cards, drawing horses,
    remembering names, whistling, getting up early, tying knots, keeping secrets, long jumps, writing letters,
    growing roses, chess, spelling, making paper boats, peeling potatoes, climbing walls, hide-and-seek, waiting,
    listening, bird calls, arithmetic
""")
