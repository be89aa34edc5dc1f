"""Something is lost, found, or a riddle."""

from __future__ import annotations

from .plot import Plot

LOST = Plot(
    "lost",
    "a lost {noun}",
    """
    {h} had a_ {thing} [that {h.they} loved more than anything|and took it everywhere|that had once belonged to
    {h.their} grandmother]. {When}, {h.ref} [looked for|reached for|wanted to play with] the {noun}, but it was gone.
    ["Oh no!" cried {h}. "Where is my {noun}?"|{h.They} looked under the bed and behind the door, but there was no
    {noun}.|{h.They} felt tears in {h.their} eyes.]

    {h.Ref} went to see {h.their} friend {f} the {f.kind}. ["Have you seen my {noun}?" asked {h}.|"I have lost my
    {noun}," said {h}.|"Please help me find my {noun}," said {h}.|||] "[When did you see it last?|Where were you
    yesterday?|Let us think. Where did you have it last?]" said {f}. {h.They} thought [hard|for a while|for a long
    time]. "[I think I had it|I played with it|I remember now! I was] {at}," {h.they} said.

    [So they went there together|They set off at once|So off they went, side by side]. [They searched high and
    low.|They looked behind every stone.|{f.Ref} looked on the left and {h.ref} looked on the right.|||] [At
    last|After a while|Just when they wanted to give up], {f.ref} {clue}. {There}

    "[Thank you|You are the best friend in the world|I could never have found it alone]," said {h} [and hugged
    {f}|with a big smile|happily]. [That evening|On the way home], {h.they} [let {f} have a turn with the
    {noun}|shared some {food} with {f}|tied a ribbon to the {noun}, so that it would never be lost again].
    """,
    (
        {
            "clue": "saw something in a bird's nest",
            "there": "[There it was!|It was the {noun}!] A magpie had [taken it|"
            'carried it there] because it [looked so pretty|was so nice to look at]. ["I am '
            'sorry," said the magpie, and '
            "gave it back.|The magpie was sorry and gave it back.]",
        },
        {
            "clue": "saw something behind a bush",
            "there": "[There it was!|It was the {noun}!] [The wind had blown it "
            "there.|It was a bit dusty, but nothing was broken.]",
        },
        {
            "clue": "heard a tiny voice",
            "there": '"[Are you looking for this?|Is this yours?]" [said|asked] [an ant|a '
            'beetle|a little mouse]. "[I have been sleeping under it|I have kept it safe for '
            'you|It is a fine roof when it rains]." It was the {noun}!',
        },
        {
            "clue": "began to laugh",
            "there": '"[Look behind you!|Look in your own bag!]" said {f}. [There it was!|The '
            "{noun} had been there all the time!] {h.Ref} [laughed too|blushed and then laughed as well].",
        },
        {
            "clue": "found [a trail of|some] footprints",
            "there": "The footprints led to a puppy that was [fast asleep|"
            "wagging its tail]. Between its paws lay the {noun}. The puppy had only wanted to "
            "play, so they [played with it "
            "for a while|threw a stick for it] and took the {noun} home.",
        },
    ),
)

LITTLE_ONE = Plot(
    "little one",
    "a lost {baby}",
    """
    {When}, {h} was walking {at} when {h.they} heard [a faint cry|a small sound|somebody crying]. [Behind a stone|In the
    tall grass|Under a big leaf] sat a tiny {baby}, [all alone|shivering|with big, wet eyes]. "[What is the matter?|Why
    are you crying?]" asked {h}. "I [cannot find|have lost] my mother," said the little {baby}.

    "[Do not worry|Do not be afraid|Dry your tears]," said {h}. "[We will find her|I will help you|I will take you
    home]." {h.They} gave the {baby} some {food} and [told it a funny story|sang it a song|wrapped it in a warm scarf].
    Then they [set off|started to walk|went to look for her].

    [On the way|Soon|Before long] they met {f.intro}. "[Have you seen|Do you know|Did you meet] a mother who is looking
    for her {baby}?" asked {h.ref}. "[Yes, I have!|Indeed I have,]" said {f}. "[She is calling|I heard her calling]
    {home}. [Come, I know the way.|Follow me!|I will show you.]"

    [They went there as fast as they could.|All three hurried along.] And there, {home}, was the mother. She [ran to her
    {baby}|held her {baby} close] and [would not let go|cried with joy]. "[How can I ever thank you?|You are so
    kind!|Thank you both!]" she said. "[You must visit us soon|Our home is always open to you]."

    [That night|When {h.they} came home], {h.ref} was very tired, but [{h.they} felt warm inside|{h.their} heart was
    light|{h.they} smiled in {h.their} sleep]. [The next week, the little {baby} came to play.|{h} and {f} often visited
    the little {baby} after that.|]
    """,
    (
        {"baby": "duckling", "home": "by the [big|quiet|old] pond"},
        {"baby": "bear cub", "home": "[near|next to] the [old|great] cave"},
        {"baby": "lamb", "home": "on the far side of the hill"},
        {"baby": "kitten", "home": "behind the [baker's shop|red barn]"},
        {"baby": "owlet", "home": "under the tallest pine tree"},
        {"baby": "hedgehog", "home": "beside the old hedge"},
        {"baby": "dragon", "home": "[at the top of|at the foot of] the smoky mountain"},
        {"baby": "rabbit", "home": "at the edge of the clover field"},
    ),
)

RIDDLE = Plot(
    "riddle",
    "a strange {noise}",
    """
    [One night|In the middle of the night|One cold night|Late one evening|One night in spring], {h.ref} was woken by a
    strange {noise}. [It came from outside.|It came from somewhere near.|{h.They} sat up at once.] "[What can that
    be?|Who is there?|What is going on?]" [whispered|said] {h}. {h.They} [could not sleep any more|waited, but it did
    not stop|hid under the blanket, but there it was again].

    In the morning {h.ref} told {f.intro} [about it|everything]. "[Perhaps it is a monster|It must be a ghost|I bet it
    is a giant]," said {f}. "[We should find out|Let us go and see|Tonight we will keep watch]," said {h}. So when it
    got dark, the two of them took a lantern and [crept outside|went out on tiptoe].

    [There was the {noise} again!|Soon there it was again.|They did not have to wait for long.] [They held on to each
    other.|{f.Ref} began to tremble.|{h.Ref} swallowed hard.|||] Step by step they went on, until they {found}.

    [They looked at each other and began to laugh.|{h} laughed out loud.|Now they both had to laugh.] "[And I was so
    afraid|So that was our monster]!" said {f}. {after} [Then they went home and slept until noon.|After that, {h.ref}
    slept very well.|From then on, no {noise} could frighten them.]
    """,
    (
        {
            "noise": "tapping",
            "found": "saw a woodpecker that was building a house [by moonlight|in the dark]",
            "after": '"[I am sorry|Forgive me]," said the woodpecker. "I only [have time|work] at night. '
            "[Soon I will be done.|"
            'Tomorrow it will be finished.]"',
        },
        {
            "noise": "light",
            "found": "saw [hundreds of|a great crowd of] fireflies that were [dancing|having a party]",
            "after": "The fireflies [asked them to join in|let them dance along], and they danced until "
            "they were dizzy.",
        },
        {
            "noise": "rumble",
            "found": "found [an old|a very fat] badger who was snoring under a tree",
            "after": "They put a blanket over the badger, [and the snoring stopped|and he snored more softly].",
        },
        {
            "noise": "song",
            "found": "came to a frog who was singing to the moon",
            "after": "The frog [bowed|was very "
            'proud]. "[At last I have an audience|I will sing another one]!" it said, and they stayed for three '
            "more songs.",
        },
        {
            "noise": "squeak",
            "found": "saw that it was only [the old gate|a loose shutter] swinging in the wind",
            "after": "{f.Ref} [fetched some oil|put a drop of oil on it], and it never squeaked again.",
        },
        {
            "noise": "humming",
            "found": "found a beehive [behind the shed|in a hollow log]",
            "after": "The bees gave them a little [pot|cup] of honey for [their courage|being so quiet].",
        },
    ),
)

TREASURE = Plot(
    "treasure",
    "a treasure map",
    """
    {When}, {h} found an old piece of paper [inside a_ {thing}|in an empty bottle|between two stones]. It was a map!
    [A red cross was drawn on it.|A dotted line led to a red cross.||] "[A treasure!|Maybe there is gold!|Somebody has
    hidden something,]" {h.they} [cried|whispered|said]. {h.They} ran to {f.intro}, and {f.they} [was just as
    excited|could hardly believe it].

    [They packed some {food} and a rope|With a lamp and some {food}, they set off]. [First|At first] the map led them
    to the {place}. Then [they had to cross a stream|they had to climb over a wall|the path went through thick
    bushes]. {f.Ref} [got stuck|slipped], but {h.ref} [pulled {f.them} up|gave {f.them} a hand]. "[We are a good
    team|Two are better than one]," said {f}.

    [At last they stood in front of|Finally they came to] a [crooked tree|big grey stone|heap of leaves]. "[Here it
    must be!|This is the place!]" [cried|said] {h}. They dug and dug, until [they hit something hard|there was a
    clonk]. It was [an old chest|a rusty box|a big clay pot]. Inside there was {prize}.

    [There was a note, too. It said:|On the lid somebody had written:] "[The best treasure is a friend to share it
    with.|For whoever is brave enough to look.|Share it, and it will last longer.]" {end} [It was the best day of the
    year.|And {h} kept the map for ever.|On the way home they were already planning the next adventure.]
    """,
    (
        {
            "prize": "[no gold at all|not a single coin], but [a hundred|a whole heap of] glass marbles",
            "end": "They [shared them fairly|counted them out, one for {h}, one for {f}], and played until dark.",
        },
        {
            "prize": "a set of paints in every colour",
            "end": "They painted [the garden wall|the old fence] with stars and flowers, and everybody came to look.",
        },
        {
            "prize": "a bag of seeds",
            "end": "They planted the seeds together, and in summer there were [sunflowers|poppies|roses] everywhere.",
        },
        {
            "prize": "a real gold coin",
            "end": "They used it to buy [new books for the school|a bench for the village "
            "square|a big cake for everybody].",
        },
        {
            "prize": "a little music box that still played",
            "end": "They wound it up and danced [around the tree|in the grass].",
        },
    ),
)

FINDING = (LOST, LITTLE_ONE, RIDDLE, TREASURE)
