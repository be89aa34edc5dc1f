"""Somebody wants to be able to do something, or to make something."""

from __future__ import annotations

from .plot import Plot

SKILL = Plot(
    "skill",
    "learning to {do}",
    """
    More than anything, {h} wanted to learn to {do}. [Everybody else could do it already.|{h.They} dreamed of it every
    night.|{h.They} had wanted it for as long as {h.they} could remember.|||] {When}, {h.they} tried it for the first
    time. {fail} ["I will never learn it," {h.they} sighed.|"It is too hard," said {h} sadly.|{h.They} felt very
    silly.]

    {f.Intro} had seen it all. "[Do not give up|Nobody can do it the first time|I needed a whole year to learn it],"
    said {f}. "{advice}" [{h.Ref} was not so sure, but {h.they} tried again.|"Do you think so?" asked {h}. "I know
    it," said {f}.|So {h.ref} took a deep breath and began again.]

    [Every day|Day after day|Each morning], the two of them practised {at}. [On the first day it was no better at
    all.|Sometimes it went well, and sometimes it did not.|{h.Ref} fell, laughed, and tried again.|||] [But little by
    little it got better.|But after a week, something had changed.|But {h.ref} did not give up.|||]

    [And then it happened!|Then, one day, it worked!|And one morning it worked!] {success} "[I can do it!|Look at
    me!|Did you see that?]" {h.they} shouted. {f.Ref} [clapped and cheered|danced with joy|was so proud]. "[I always
    knew it|You did that all by yourself|You see? You only had to keep trying]," said {f}.

    [Now {h.ref} can {do} better than anybody else, far and wide.|Since then, {h.ref} has taught many others to
    {do}.|And when somebody says "I will never learn it", {h} [smiles and says|always says], "Just try once more."]
    """,
    (
        {
            "do": "swim",
            "fail": "{h.They} [went under at once|splashed a lot] and swallowed [half the pond|a lot of water].",
            "advice": "[Breathe slowly and let the water carry you.|Kick with your legs and keep your nose up.]",
            "success": "{h.Ref} swam [right across|all the way to the other side].",
        },
        {
            "do": "whistle",
            "fail": "Only [air|a wet hiss] came out.",
            "advice": "[Make a small round mouth, and blow gently.|Think of your favourite bird and blow softly.]",
            "success": "A clear, bright tone rang through the air.",
        },
        {
            "when": "[on a cold day in winter|one frosty morning|when the pond was frozen]",
            "do": "skate",
            "fail": "{h.They} took one step and [sat down hard on the ice|slid into a heap of snow].",
            "advice": "[Bend your knees and look ahead, not down.|Small steps first, then longer ones.]",
            "success": "{h.Ref} glided over the ice in a perfect circle.",
        },
        {
            "do": "bake bread",
            "fail": "The bread was [as hard as a stone|black outside and wet inside].",
            "advice": "[Give the dough time to rise.|Do not hurry. Good bread needs a warm place and a nap.]",
            "success": "The bread came out of the oven golden and soft, and the whole house smelled of it.",
        },
        {
            "do": "dance",
            "fail": "{h.They} [stepped on everybody's toes|turned left when everybody turned right].",
            "advice": "[Listen to the drum and forget your feet.|Count to four, and then begin again.]",
            "success": "{h.Ref} turned and jumped [as light as a feather|as if {h.they} had never done anything else].",
        },
        {
            "do": "read",
            "fail": "The letters [looked like ants|danced before {h.their} eyes].",
            "advice": "[Take one letter at a time.|Start with your own name. It has only a few letters.]",
            "success": "{h.Ref} read a whole page aloud, [from the first word to the last|without a single mistake].",
        },
        {
            "do": "juggle",
            "fail": "All three balls [rolled away|fell on {h.their} head].",
            "advice": "[Begin with one ball, then take two.|Look up, not at your feet.]",
            "success": "Three balls flew round and round, and not one fell down.",
        },
        {
            "do": "play the flute",
            "fail": "It sounded like [an angry goose|a rusty door].",
            "advice": "[Start with one soft note.|Play slowly, as if you were telling a secret.]",
            "success": "{h.Ref} played a little song, and [the birds stopped to listen|it was beautiful].",
        },
        {
            "do": "climb trees",
            "fail": "{h.They} got as high as the first branch and [slid down again|landed in the leaves].",
            "advice": "[Test every branch before you trust it.|Hold on with one side while the other one moves.]",
            "success": "{h.Ref} climbed right to the top and could see [the sea|the whole valley].",
        },
    ),
)

BUILDING = Plot(
    "building",
    "building a {built}",
    """
    {When}, {h} had an idea. "I am going to build a {built}!" {h.they} [said|told everybody]. [Some laughed.|"That is
    much too hard for you," said the neighbours.|{h.Their} head was full of plans.|||] {h.They} began at once, with
    [nails and boards|a hammer, some wood and a lot of hope|whatever {h.they} could find {at}].

    [After a few hours it looked quite good.|It was hard work.] But then {trouble}. ["All that work for nothing!"
    cried {h}.|{h.Ref} sat down and [hid {h.their} face|did not know what to do].|{h.Ref} kicked a stone and was very
    angry.]

    Just then {f.intro} came by. "[What a pity|I see that you need help|That looks like a good plan]," said {f}. "[May
    I help?|Shall we do it together?|I know a trick.]" [{h.Ref} had wanted to do it alone|{h.Ref} did not like to ask
    for help], but now {h.they} [nodded|was glad]. {fix}.

    [Before the sun went down|Two days later|When the moon came up], the {built} was finished. {use} "[We did it|It is
    even better than I dreamed]!" said {h}. "[It is our {built} now|Alone I would have given up]." And [everybody who
    had laughed wanted to try it|they ate some {food} and looked at it until dark].
    """,
    (
        {
            "built": "tree house",
            "trouble": "a board broke and half of it fell down",
            "fix": "They used thicker boards and tied them with rope",
            "use": "They climbed up and looked [over the roofs|far over the land].",
        },
        {
            "built": "raft",
            "trouble": "it sank as soon as it touched the water",
            "fix": "They tied [four|six] empty barrels under it",
            "use": "They floated [down the river|out on the lake] like two captains.",
        },
        {
            "when": "[on a cold day in winter|one frosty morning|when it had snowed all night]",
            "built": "snow castle",
            "trouble": "the roof fell in with a soft plop",
            "fix": "They made the walls thicker and poured water on them, so that they froze",
            "use": "They sat inside with two candles, and it was quite warm.",
        },
        {
            "built": "flying machine",
            "trouble": "both wings fell off",
            "fix": "They made new wings from [old umbrellas|a bed sheet]",
            "use": "It flew only as far as the next [haystack|hedge], but it flew!",
        },
        {
            "built": "bridge",
            "trouble": "the middle of it fell into the water",
            "fix": "They put a big stone in the middle to hold it up",
            "use": "They walked across it, [first slowly, then running|hand in hand].",
        },
        {
            "built": "soapbox car",
            "trouble": "a wheel came off and rolled away",
            "fix": "They found a better wheel and fixed it with a bolt",
            "use": "They raced down the hill and [screamed with joy|only stopped in a heap of hay].",
        },
    ),
)

SEED = Plot(
    "seed",
    "a seed that would not grow",
    """
    {When}, {f.intro} gave {h} a tiny seed. "[Plant it and be patient|Give it water, sun and time|Take good care of
    it]," said {f}. {h.Ref} planted it {spot} and [sat down to wait|gave it some water]. [Nothing happened.|An hour
    later, there was still nothing to see.]

    [The next day|On the second day], there was nothing, and the day after that there was nothing again. {h.Ref} [sang
    to it|read to it|shouted "Grow!" at it|told it jokes]. [It did not help.|The earth stayed bare.||] "[I think it is
    broken|Maybe it does not like me|It must be asleep]," {h.they} said to {f}. "[Seeds work in secret|It is busy where
    you cannot see it|Good things take time]," said {f}. "[Just wait|Do not dig it up]."

    So {h.ref} waited. {h.They} gave it water every [morning|evening], [even when {h.they} was tired|even in the rain],
    and pulled out the weeds. [A week went by.|Two weeks went by.] [Then, at sunrise|One morning|Then, after a night of
    rain], there was [a tiny green tip|a little green leaf] in the earth!

    After that it grew and grew, and [at the end of the summer|some weeks later] it was {plant}. {h.Ref} [called {f} at
    once|ran to fetch {f}]. {shared} "[Now I know|I have learned] what patient means," said {h}. [And {h.they} kept one
    seed for the next year.|{f.Ref} smiled and gave {h.them} another seed.|]
    """,
    (
        {
            "spot": "in a [blue|red|clay] pot",
            "plant": "a strawberry plant with [five|seven|nine] red berries",
            "shared": "They ate the berries together, one by one.",
        },
        {
            "spot": "next to [the door|the fence]",
            "plant": "a sunflower, taller than the roof",
            "shared": "They had to bend back their heads to see its face.",
        },
        {
            "spot": "behind the house",
            "plant": "a pumpkin as big as a wheelbarrow",
            "shared": "They made soup of it, enough for the whole village.",
        },
        {
            "spot": "on a sunny bank",
            "plant": "a rose bush full of [white|red|yellow] roses",
            "shared": "They gave a rose to everybody who came past.",
        },
        {
            "spot": "in the middle of the garden",
            "plant": "a bean plant that had climbed right up [a pole|the wall]",
            "shared": "They cooked the beans that very evening.",
        },
    ),
)

LEARNING = (SKILL, BUILDING, SEED)
