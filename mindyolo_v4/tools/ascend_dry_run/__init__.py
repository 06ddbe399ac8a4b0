"""Takes the product's graphs through MindSpore's own Ascend back end, on a machine without Ascend.

MindSpore's wheel from PyPI holds the whole Ascend back end; only CANN's libraries are missing.
`stand_ins` builds replacements for them with the compiler of the system (`ge.cc`, `acl.cc`, and a
stub for each further symbol that the installed wheel lacks). A process with them and with
MS_SIMULATION_LEVEL=1 sees an Ascend (910B), and MindSpore's code runs as on a device:

- at every jit level: parsing, differentiation and mixed precision as for Ascend;
- at O2: the acceptance check of the graph engine's back end (a graph is taken whole or refused; a
  call of Python, or an `if` that returns a Parameter, is refused), its passes, and the conversion
  of every node to an operator of CANN, those of the branches of `if finite:` included. The dry run
  ends where CANN would compile the graph. The operators are listed with shapes and types;
- at O0: the selection of a kernel for every node; the graph then "runs" without computing, so that
  `train.py` goes through its steps, validation and checkpoints to its end.

    python -m mindyolo_v4.tools.ascend_dry_run --config FILE [--key value ...]

With `--devices 8` the process takes itself for rank 0 of 8. Exchanges are part of the graphs: they
are converted at O2 and get their kernels at O0.

What it cannot show, and only a device can: that CANN has a kernel for each operator, type and
shape; numbers, speed and memory; the exchange between devices; what CANN fuses or inserts. An
operator whose name begins with `Cust` is MindSpore's own for the AI CPU, which is slow; O0 names no
processor, so that such operators are found at O2 only.

Needs: Linux on x86-64, g++, binutils (`nm`, `objdump`); MindSpore 2.7 or 2.8 for O2, which is
deprecated from 2.9 on.
"""
