"""Questions about llamaq and about the model itself, with true answers (README.md of the repository)."""

from __future__ import annotations

from .grammar import pairs

FACTS = pairs("""
    Q: [What is|What's|Can you explain|Tell me about|What do you know about] llamaq[?|]
    A: llamaq [is a program that runs|runs] language models in GGUF files on ordinary CPUs[, from the command line
    and from Python|. You can use it from the command line or from Python].

    Q: [Who are you?|What are you?|What is your name?|Introduce yourself.|Are you a person?|Are you a human?|who are
    you]
    A: I am the [small|little|tiny] demo model of llamaq[, a language model with about four million weights|]. I
    [can tell little stories|know some small stories] and [do easy sums|answer questions about llamaq].

    Q: [What can you do?|How can you help me?|What are you good at?|help|Can you help me?|What should I ask you?]
    A: I can [tell you a story|tell stories], [do small sums|add small numbers] and [answer questions about
    llamaq|tell you something about llamaq]. [Try: "Tell me a story about a_ {kind}."|Ask me for a story about a_
    {kind}, for example.]

    Q: [What can you not do?|What are your limits?|Are you very clever?|Do you know everything?|Are you like a big
    model?]
    A: I am very small. I [know nothing about the world|cannot answer questions about the world], [and I make
    mistakes|and not everything that I say is right]. [For real work, load a bigger model.|A bigger model in a GGUF
    file will do better.]

    Q: [How were you made?|Who made you?|What were you trained on?|Where do you come from?|Who trained you?]
    A: I was trained [on stories and dialogues that a program wrote|on text that was made by a program], [from
    grammars and word lists|from templates and word lists]. [The script is in the folder|Everything is in the
    folder] tools/demo_model of llamaq.

    Q: [How big are you?|How many weights do you have?|How large is this model?|Are you a large language model?]
    A: I am [tiny|very small]: about four million weights, in a file of [less than six megabytes|at most six
    megabytes].

    Q: [How do I|How can I] [run|use|load|try] [another|a bigger|my own] model[?|]
    A: [Give its file|Name the file]: llamaq run model.gguf "A prompt". [A file from Hugging Face in the GGUF format
    will do, if its architecture is llama.|It must be a GGUF file with the llama architecture.]

    Q: [Which|What] [models|architectures] [can llamaq run|does llamaq support|run in llamaq]?
    A: llamaq runs GGUF files with the llama architecture[, such as Llama 1 to Llama 3.3, Code Llama and TinyLlama|:
    for example Llama 3 and TinyLlama].

    Q: [What is a GGUF file?|What is GGUF?|What does GGUF mean?|what's gguf]
    A: GGUF is a file format for language models. [One file holds|It holds] the weights, the vocabulary and
    [everything else that a program needs to run the model|the settings of the model].

    Q: [How do I|How can I|Can I] [quantize a model|make a model smaller|shrink a model][?|]
    A: [Use this command|With this command]: llamaq quantize f16.gguf q4.gguf Q4_K_M. [The new file is about a
    quarter of the old one.|It stores each weight with fewer bits.]

    Q: [What is quantization?|What does quantize mean?|Why should I quantize?]
    A: Quantization stores each weight of a model with fewer bits. The file gets smaller and the model gets faster,
    but the answers [get a little worse|change a little].

    Q: [How do I|How can I|Can I] [convert a model from Hugging Face|convert safetensors|make a GGUF file][?|]
    A: [Use|Run] llamaq convert FOLDER model-f16.gguf. [It reads the safetensors files of the folder.|FOLDER is one
    with safetensors files from Hugging Face.]

    Q: [Do I need|Does llamaq need|Must I have] a [GPU|graphics card|fast computer]?
    A: No. llamaq runs on [ordinary CPUs|the CPU]: x86-64 and 64-bit ARM.

    Q: [Which|What] [CPUs|processors|machines] [does llamaq run on|are supported|can I use]?
    A: llamaq runs on x86-64 and on 64-bit ARM. It picks the best SIMD level of your CPU [by itself|when it starts].

    Q: [How do I|How can I] [measure the speed|see how fast it is|benchmark a model|test the speed][?|]
    A: [Run|Use] llamaq bench model.gguf. It shows the tokens per second, and how much of what your machine can do
    that is.

    Q: [How do I|How can I] use llamaq [from|in|with] Python[?|]
    A: [Like this|In Python]: from llamaq import LLM, then LLM.load("model.gguf"). [The stream method gives the text
    piece by piece.|Its stream method gives you text.]

    Q: [Is llamaq free?|What licence does llamaq have?|What is the license of llamaq?|May I use llamaq at work?]
    A: llamaq has the MIT licence[: you may use it for anything|, so you may use it, change it and share it].

    Q: [Do you need the internet?|Does llamaq need the internet?|Do you work offline?]
    A: I need no internet. I run on your own computer[, and nothing that you write leaves it|].

    Q: [Does llamaq give the same answer every time?|Are the results the same on every computer?|Is llamaq
    deterministic?]
    A: The same tokens give the same logits, bit for bit, on every CPU level and with any number of threads. [With
    --temp 0 the text is the same, too.|]

    Q: [How do I|How can I] [make the text always the same|turn off randomness|get greedy text][?|]
    A: [Set the temperature to 0|Use temperature 0]: llamaq run model.gguf "A prompt" --temp 0.

    Q: [What is|What does] llamaq info[| do]?
    A: llamaq info model.gguf shows the metadata, the tensors, the memory and the kernel chosen for each format.

    Q: [How do I|How can I] [count tokens|see the tokens of a text|tokenize a text][?|]
    A: [Use|Run] llamaq tokenize model.gguf "Some text". It prints the ids.

    Q: [How do I|How can I] [compare two models|see what quantization costs|measure the loss of quality][?|]
    A: [Use|Run] llamaq compare base.gguf other.gguf -f text.txt. It shows the KL divergence and more.

    Q: [What is perplexity?|How do I measure perplexity?|How good is my model?]
    A: Perplexity says how well a model foretells a text; lower is better. Measure it with llamaq perplexity
    model.gguf -f text.txt.

    Q: [What language is llamaq written in?|How is llamaq built?|What is llamaq made of?]
    A: llamaq has kernels in C++ and the rest in Python.
""")
