"""Fear, a slip that must be owned up to, help in need."""

from __future__ import annotations

from .plot import Plot

FEAR = Plot(
    "fear",
    "being afraid of {fear}",
    """
    There was one thing that {h} was afraid of, and that was {fear}. {h.They} [never told anybody about it|did not like
    to talk about it|had always been like that]. [When others laughed about it, {h.they} laughed too, but not
    inside.|"It is silly, I know," {h.they} often thought.|]

    {When}, {f.intro} came running. "[Help!|Come quickly!|You must help us!]" called {f}. "{need}" {h.Ref} [turned
    pale|felt {h.their} knees shake|wanted to hide]. {danger} [There was nobody else who could go.|There was no time to
    fetch anybody else.]

    [{h} looked at the frightened face of {f}.|"I am afraid," {h} said, "but I will go."|{h} closed {h.their} eyes,
    counted to three, and went.] {deed} [{h.Their} heart was beating like a drum|{h.They} trembled from head to toe],
    but {h.they} [did not turn back|went on, step by step].

    When it was over, {f} said, "[You are the bravest {h.kind} that I know|That was very brave of you|I would not have
    dared to do that]." "[But I was afraid all the time|I was so scared]!" said {h}. "[That is just what makes you
    brave|To be brave is to be afraid and to go all the same]," said {f}. {after}
    """,
    (
        {
            "when": "[late one night|one dark night|one evening in winter]",
            "fear": "the dark",
            "need": "The little mouse has not come home, and it is night!",
            "danger": "Outside it was as black as ink.",
            "deed": "{h.They} walked into the night and called the mouse's name, until a tiny voice answered "
            "from under a root.",
            "after": "Since then {h} has found out that the dark is full of stars.",
        },
        {
            "fear": "thunder",
            "need": "The smallest lamb of the flock has run out into the storm!",
            "danger": "Just then there was a crash of thunder.",
            "deed": "{h.They} ran through the rain and found the lamb under a bush, and led it home.",
            "after": 'And when it thundered again, {h} only said, "Good evening, thunder."',
        },
        {
            "fear": "deep water",
            "need": "My little brother is on a log, and the river is taking him away!",
            "danger": "The water was cold and brown.",
            "deed": "{h.They} waded in up to the neck, caught the log and pulled it ashore.",
            "after": "The next summer {h} swam in the river every day.",
        },
        {
            "fear": "heights",
            "need": "A chick has climbed up the tower and cannot get down!",
            "danger": "The tower was [taller than any tree|terribly tall].",
            "deed": "{h.They} climbed the stairs, looked only at {h.their} own feet, and carried the chick down.",
            "after": "Later they climbed up together, just to look at the view.",
        },
        {
            "fear": "the big dog next door",
            "need": "The big dog next door is caught in a fence, and it is howling!",
            "danger": "The dog had very large teeth.",
            "deed": "{h.They} went up to the dog, spoke softly, and pulled the wire from its paw.",
            "after": "The dog licked {h.their} nose, and since then they have been friends.",
        },
        {
            "fear": "strangers",
            "need": "An old traveller has fallen on the road!",
            "danger": "The stranger had a long coat and a deep voice.",
            "deed": "{h.They} went up to the stranger, helped the old man to a bench and brought him some {food}.",
            "after": "The traveller told them stories of far lands, and {h} asked for one more and one more.",
        },
    ),
)

SLIP = Plot(
    "slip",
    "telling the truth",
    """
    {When}, {h} was playing with a ball in the [house|kitchen|room] of {f.intro}, although {f} had said, "[Please do
    not play in here|Better play outside]." There was a crash, and {broken}. {h.Ref} [stood quite still|held {h.their}
    breath|looked around]. Nobody had seen it.

    {h.They} [hid the pieces behind a curtain|pushed the pieces under a chair|put the ball away] and ran home. When
    {f} came by, {f.they} asked, "[Do you know what happened?|Did you see who did it?]" "[It was the wind|Maybe it was
    the cat|I know nothing about it]," said {h}. {f.Ref} [nodded|said nothing more], but [{h.ref} felt a stone in
    {h.their} stomach|suddenly even the {food} did not taste good|{h.they} could not look at {f}].

    [That night {h.they} could not sleep.|All night long {h.ref} turned from one side to the other.] [The lie seemed
    to grow bigger and bigger.|{h.They} kept thinking of the pieces.||] In the morning {h.they} [went to|knocked at
    the door of] {f}. "[I have to tell you something|I did not tell you the truth]," said {h} in a small voice. "It
    was me. [I am so sorry.|I was ashamed. I am sorry.]"

    {f.Ref} [looked at {h.them} for a long time|was silent for a moment|took a deep breath]. "[I am sad about it|It
    was very dear to me]," {f.they} said, "but [I am glad that you told me|it was brave to tell me|a friend who tells
    the truth is worth more]." {mend} And [the stone in {h.their} stomach was gone|{h.ref} felt as light as a
    feather|{h.they} slept like a log that night].
    """,
    (
        {
            "broken": "the blue vase was in pieces",
            "mend": "They glued the vase together, and the cracks looked like a pattern of branches.",
        },
        {"broken": "the window had a big hole in it", "mend": "{h.Ref} worked for a week to pay for a new window."},
        {
            "broken": "the old clock stood still",
            "mend": "Together they took the clock apart, found the loose wheel, and made it tick again.",
        },
        {
            "broken": "the favourite teapot had lost its spout",
            "mend": "They planted a little flower in the teapot, and it looked very pretty there.",
        },
        {
            "broken": "the picture on the wall fell down and tore",
            "mend": "{h.Ref} painted a new picture, with both of them in it.",
        },
    ),
)

STUCK = Plot(
    "stuck",
    "a {f.kind} who needs help",
    """
    {When}, {h} was on the way home with a_ {thing} when {h.they} heard somebody shout. "[Help! Help!|Is anybody
    there?|Please, help me!]" It was {f.intro}, who {trap}. [{h.Ref} ran to {f.them} at once.|{h} dropped everything
    and came running.||]

    "[Do not move|Keep calm|Hold on], I will get you out," said {h}. First {h.they} {try}, but [that was no use|it did
    not work|that only made it worse]. [{f} began to cry.|"I shall be stuck here for ever," said {f}.|It was getting
    dark.|||] "[Let me think|There must be a way]," said {h}. {h.Ref} looked around, and then at the {thing} in the
    grass. "[I have it!|I know what to do!]"

    {rescue} [It took a long time, but|Slowly, very slowly,|With one last pull] {f} was free! {f.They} [stretched
    {f.their} legs|fell into {h.their} arms|did not know what to say]. "[You saved me|I will never forget this]," said
    {f}. "[Anybody would have done it|You would have done the same for me|That is what friends are for]," said {h}.

    [A month later|One day in the next winter|Not long after that], it was {h} who [was in trouble|had lost the way in
    the fog]. And who came [running|out of the mist]? It was {f}! "[Now it is my turn|Did you think that I would
    forget?]," said {f}, and took {h.them} home[ for some {food}|, where a warm fire was burning|].
    """,
    (
        {
            "trap": "had fallen into a deep hole",
            "thing": "long [blue |red |grey |]scarf",
            "try": "reached down as far as {h.they} could",
            "rescue": "{h.They} tied one end of the {thing} to a tree and let the other end down into the hole.",
        },
        {
            "trap": "was caught in a net",
            "thing": "[sharp shell|broken bottle|old pair of scissors]",
            "try": "pulled at the net",
            "rescue": "With the edge of the {thing}, {h.they} cut the net, one string after another.",
        },
        {
            "trap": "was stuck in the mud",
            "thing": "[strong|big|black] umbrella",
            "try": "pushed from behind",
            "rescue": "{h.They} laid flat stones in the mud, and held out the {thing} for {f} to hold on to.",
        },
        {
            "trap": "was sitting on a rock while the water rose",
            "thing": "[coil of rope|long rope|skipping rope]",
            "try": "threw a stick to {f.them}",
            "rescue": "{h.They} tied the "
            "{thing} to a vine and threw it over, again and again, until {f} could catch it.",
        },
        {
            "trap": "had been locked in a shed",
            "thing": "[long wooden spoon|big broom|walking stick]",
            "try": "rattled the door",
            "rescue": "{h.They} pushed the {thing} under the bar of the door and lifted it up.",
        },
    ),
)

STORM = Plot(
    "storm",
    "a great storm",
    """
    {When}, {h} was far from home when the sky turned black. [First came the wind|The wind began to howl], then
    {storm}. {h.Ref} [could hardly see the path|was soon wet and cold|held on to {h.their} {thing} and walked faster].
    [There was no house anywhere.|Everything looked the same.]

    Then {h.they} saw a small light {at}. {h.They} knocked. "[Who is there?|Go away!]" called a [rough|grumpy|tired]
    voice. "[Only me|Please let me in]! [I have lost my way|the storm is terrible]," said {h}. The door opened [a
    crack|slowly]. There stood {f.intro}, who had never [had a guest|let anybody in].

    "[Well, come in, then|You can stay until it is over]," said {f}. At first they sat there [in silence|and said
    nothing]. Then {h.ref} [told a joke, and {f} had to laugh|began to hum a song, and {f} joined in|asked about the
    pictures on the wall, and {f} told a long story]. They ate some {food} and [played cards|told each other
    riddles|talked] until the storm [was over|had gone to bed].

    In the morning [the sun was shining|the sky was clear and blue]. "[I thought that I liked to be alone|I had
    forgotten how nice it is to have company]," said {f}. "[Will you come back?|Come again, storm or no storm.]" {h.Ref}
    [promised it|gave {f.them} the {thing} to remember the night], and [every week since then, there have been two cups
    on the table|they have been friends ever since].
    """,
    (
        {"storm": "the rain fell like a curtain"},
        {"storm": "it snowed and snowed"},
        {"storm": "hail as big as nuts fell down"},
        {"storm": "fog rolled in from all sides"},
        {"storm": "the thunder rolled over the hills"},
    ),
)

COURAGE = (FEAR, SLIP, STUCK, STORM)
