"""Quarrels, gifts, races, wishes."""

from __future__ import annotations

from .plot import Plot

QUARREL = Plot(
    "quarrel",
    "two friends who quarrel about a_ {noun}",
    """
    {h.Their} best friend was {f.intro}. [They did everything together.|They had never quarrelled before.||] {When}, the
    two of them found a_ {thing} {at}. "[It is mine!|I saw it first!]" said {h}. "[No, it is mine|No, I did]!" said {f}.
    Both of them pulled, and {broke}.

    "[That is your fault!|Now look what you have done!|You broke it!]" they shouted, both at the same time. {h.Ref} went
    home and slammed the door. {f.Ref} went home, too. [The next day was long and boring.|It was very quiet without a
    friend.|Even the {food} did not taste good alone.|||] "[I do not even need a_ {noun},|What is a_ {noun} good for
    without {f}?]" thought {h}.

    [In the evening|After three days], {h.ref} took [a deep breath|some glue and string] and went to see {f}. Halfway,
    they met: {f} was just on the way to {h.them}! "I am sorry," both of them said at once, and then they had to laugh.
    "[Let us mend it|We can fix it together]," said {f}.

    {mend} "[Who shall keep it?|And whose is it now?]" asked {f}. "[It is ours|You have it today, and I have it
    tomorrow]," said {h}. [And that is how they did it from then on.|They shook on it, and they never quarrelled about
    it again.|And the {noun} was more fun with two.|||]
    """,
    (
        {"broke": "it broke in two", "mend": "They glued the two halves together and painted a star over the crack."},
        {
            "broke": "it flew through the air and fell into the mud",
            "mend": "They washed it and dried it in the sun, and it looked better than before.",
        },
        {
            "broke": "with a loud snap, it came apart",
            "mend": "They bound it up with string, and it was as strong as before.",
        },
    ),
)

GIFT = Plot(
    "gift",
    "a birthday present",
    """
    It was nearly the birthday of {f.intro}, and {h} wanted to give {f.them} a present. {h.They} [turned out {h.their}
    pockets|looked into {h.their} money box], but there was only [a button|one small coin|a piece of string]. In the
    shop there was a_ {thing}, [but it was much too dear|but it cost more than {h.they} had].

    {try} [But it went wrong:|But oh dear:] {wrong}. {h.Ref} [looked at the mess and sighed|sat down on the floor|wanted
    to cry]. "[Now I have nothing at all,|What shall I do?|What a day!]" {h.they} said. [Tomorrow was the birthday.|It
    was already getting dark.||]

    {h.They} thought about {f} and all the things that they had done together. Then {h.they} had an idea. {h.They}
    [worked until midnight|lit a candle and set to work|did not sleep until it was done]. {made}

    On the birthday, {f} got many fine things. {h.Ref} gave {h.their} present last and [looked at the floor|felt quite
    shy]. {f.Ref} was silent. Then {f.they} [had tears of joy in {f.their} eyes|hugged {h.them} tightly|smiled from ear
    to ear]. "[It is the best present of all|Nobody has ever given me anything like it]," said {f}. They [ate some
    {food} and talked|danced|laughed|sang] until late, [and {f} kept the present for ever|and {h} was as happy as {f}].
    """,
    (
        {
            "try": "So {h.they} tried to bake a cake.",
            "wrong": "the cake was burnt to a cinder",
            "made": "{h.They} wrote down the story of how they had met, with a picture on every page.",
        },
        {
            "try": "So {h.they} tried to knit a scarf.",
            "wrong": "the wool was in one big knot",
            "made": "{h.They} made the wool into a funny little puppet with button eyes.",
        },
        {
            "try": "So {h.they} went to pick flowers.",
            "wrong": "a goat ate every one of them",
            "made": "{h.They} folded flowers out of coloured paper, which no goat would eat.",
        },
        {
            "try": "So {h.they} tried to paint a picture.",
            "wrong": "the paint ran all over the paper",
            "made": "{h.They} cut the coloured paper into stars and hung them on a string.",
        },
        {
            "try": "So {h.they} tried to write a poem.",
            "wrong": "nothing would rhyme with the name {f}",
            "made": "{h.They} made up a song without any rhymes and practised it until it was good.",
        },
    ),
)

RACE = Plot(
    "race",
    "a race",
    """
    Every year there was a great race [where {h} lived|in the valley|in the country]: once around the {place} and back.
    "[This year I am going to win|Nobody is as fast as I am]!" said {f.intro}. {h.Ref} had never won anything. But
    {h.they} [wanted to try it all the same|had practised in secret|put {h.their} name on the list].

    [One sunny day|On a Saturday|One bright morning|On midsummer day|On the day of the race], everybody came to watch.
    "[Ready, steady, go|One, two, three, go]!" {f.Ref} [shot off like an arrow|was soon far ahead], and {h.ref} [ran as
    well as {h.they} could|came last, but did not stop]. {mishap} [The others ran past.|"Bad luck!" called the others
    and ran on.|Nobody else stopped.]

    {h} [stopped|slowed down]. If {h.they} ran on now, {h.they} could win! But {h.they} [turned around|could not do
    it|looked at {f} and forgot the race]. "[Lean on me|Come, I will help you]," said {h}. "[But you will lose!|And the
    race?]" said {f}. "[There is a race every year|A friend is worth more than a cup]," said {h}. So they went on
    together, [slowly|step by step].

    They were the very last, but [everybody clapped|the crowd cheered as loudly as it could]. {prize} "[You have won
    after all|To me you are the winner]," said {f}. [The next year they trained together.|And from that day on, they
    were friends.|And they both ate some {food}.|||]
    """,
    (
        {
            "mishap": "But then {f} slipped and hurt {f.their} foot.",
            "prize": "The judge gave them a prize that had never been given before: a ribbon for kindness.",
        },
        {
            "mishap": "But at the first bend, {f} tripped over a root and could not get up.",
            "prize": "The winner came and hung the medal around the neck of {h}.",
        },
        {
            "mishap": "Suddenly {f} fell into a ditch with a splash.",
            "prize": "The children threw flowers, and {h} went quite red.",
        },
    ),
)

WISH = Plot(
    "wish",
    "a wish",
    """
    {When}, {h} [helped {giver} out of a puddle|pulled a thorn from the foot of {giver}|shared some {food} with
    {giver}]. "You have a good heart," said {who}. "[I will grant you one wish|You may wish for one thing]. Think
    well!" {h.Ref} did not think for long. "{wish}" [{h.they} cried|said {h}]. And it came true.

    [At first it was wonderful.|What fun that was, for a day!|In the beginning {h.they} was very happy.] But {trouble}
    [Soon {h.ref} was sorry.|That was no fun any more.|"I did not think of that," said {h.ref}.] {h.They} went to
    {f.intro} and told {f.them} everything. "[Go and ask {who} to take it back|Say that you are sorry]," said {f}. "[I
    will come with you|We will go together]."

    They [looked for {who} all day|searched until evening], and found {who} {at}. "[Please take it back|I want to be
    as I was before]," said {h}. [{who} smiled.|"Most of them come back," said {who}.||] "[Wishes are tricky|A wish is
    like a seed: look well what you plant]. [And what do you want now?|Is there something else?]" "[Nothing|Only that
    {f} stays my friend]," said {h}. "[That you have already|For that you need no magic]."

    [So everything was as before, and it was good.|And when {h.they} woke up the next day, everything was as it had
    been.] {h.Ref} [had some {food} with {f}|played with {f} {at}] and thought, "[I have all that I need|This is
    better than any wish]."
    """,
    (
        {
            "giver": "an old fairy",
            "who": "the fairy",
            "wish": "I wish that it were my birthday every day!",
            "trouble": "after a week there were no more surprises, and all the cake made {h.them} sick.",
        },
        {
            "giver": "a tiny gnome",
            "who": "the gnome",
            "wish": "I wish that I were as tall as a tower!",
            "trouble": "{h.they} no longer fitted through the door, and everybody ran away.",
        },
        {
            "giver": "a silver owl",
            "who": "the owl",
            "wish": "I wish that everything I touch would turn into cake!",
            "trouble": "even the bed turned into cake, and so did the {thing}.",
        },
        {
            "giver": "a strange old woman",
            "who": "the old woman",
            "wish": "I wish that nobody could see me!",
            "trouble": "nobody said good morning, and everybody bumped into {h.them}.",
        },
        {
            "giver": "a talking crow",
            "who": "the crow",
            "wish": "I wish that I could have the whole {place} for myself!",
            "trouble": "it was very lonely there, without a single voice.",
        },
    ),
)

MOON = Plot(
    "journey",
    "a journey to {goal}",
    """
    [For a long time|All {h.their} life], {h} had wanted to see {goal}. {When}, {h.they} packed a_ {thing} and some
    {food} and [set off|said goodbye]. "[It is too far|You will never get there]," said [the neighbours|an old crow].
    "[Then I will walk for a long time|I will see how far I get]," said {h}.

    On the first day {h.they} came to {barrier}. {h.Ref} did not know how to get across. There sat {f.intro}, who looked
    rather sad. "[Where are you going?|What is the matter?]" they asked each other. "I want to see {goal}," said {h}.
    "[So do I, but I do not dare to go alone|I have always wanted that, too]," said {f}.

    So they went on together. {f.Ref} [knew a way across|had a good idea]: {way}. [At night they slept under the
    stars|When one was tired, the other sang], and [when {f} was hungry, {h} shared the {food}|when {h} was afraid, {f}
    told a funny story]. They walked for [three|five|seven] days.

    And then, {when}, they stood before {goal}. {view} They sat there [hand in hand|side by side] and said nothing for a
    long time. "[Was it worth the long way?|Is it as you dreamed it?]" asked {f}. "[Yes|Oh yes]," said {h}, "[but the
    best thing that I found on the way is a friend|and the best part is that you are here]."
    """,
    (
        {
            "goal": "the sea",
            "barrier": "a wide river",
            "way": "they made a raft of three logs",
            "view": "It was so big and so blue that it had no end.",
        },
        {
            "goal": "the highest mountain",
            "barrier": "a deep gorge",
            "way": "they laid a fallen tree across it",
            "view": "The top was white, and the clouds lay below it like sheep.",
        },
        {
            "goal": "the great city",
            "barrier": "a swamp",
            "way": "they jumped from one tuft of grass to the next",
            "view": "A thousand windows were shining, and bells rang from every tower.",
        },
        {
            "goal": "the end of the rainbow",
            "barrier": "a high wall",
            "way": "one climbed on the other's back",
            "view": "There was no gold, but the whole meadow was full of colours.",
        },
        {
            "goal": "the northern lights",
            "barrier": "a frozen lake",
            "way": "they tested the ice with a long stick and crawled over it",
            "view": "Green and purple curtains danced across the sky.",
        },
    ),
)

TOGETHER = (QUARREL, GIFT, RACE, WISH, MOON)
