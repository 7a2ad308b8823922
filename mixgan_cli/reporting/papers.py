"""The papers that the models come from, as BibTeX."""

from __future__ import annotations

from collections.abc import Mapping

GAN = """@inproceedings{goodfellow2014gan,
  title = {Generative Adversarial Nets},
  author = {Goodfellow, Ian and Pouget-Abadie, Jean and Mirza, Mehdi and Xu, Bing and Warde-Farley, David and
            Ozair, Sherjil and Courville, Aaron and Bengio, Yoshua},
  booktitle = {Advances in Neural Information Processing Systems (NIPS)},
  year = {2014}
}"""
HMOG = """@inproceedings{ahmetoglu2020hmog,
  title = {Hierarchical Mixtures of Generators for Adversarial Learning},
  author = {Ahmeto{\\u g}lu, Alper and Alpayd{\\i}n, Ethem},
  booktitle = {International Conference on Pattern Recognition (ICPR)},
  year = {2020},
  note = {arXiv:1911.02069}
}"""
MADGAN = """@inproceedings{ghosh2018madgan,
  title = {Multi-Agent Diverse Generative Adversarial Networks},
  author = {Ghosh, Arnab and Kulharia, Viveka and Namboodiri, Vinay P. and Torr, Philip H. S. and Dokania, Puneet K.},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year = {2018},
  note = {arXiv:1704.02906}
}"""
MEGAN = """@inproceedings{park2018megan,
  title = {MEGAN: Mixture of Experts of Generative Adversarial Networks for Multimodal Image Generation},
  author = {Park, David Keetae and Yoo, Seungjoo and Bahng, Hyojin and Choo, Jaegul and Park, Noseong},
  booktitle = {International Joint Conference on Artificial Intelligence (IJCAI)},
  year = {2018},
  note = {arXiv:1805.02481}
}"""
MGAN = """@inproceedings{hoang2018mgan,
  title = {MGAN: Training Generative Adversarial Nets with Multiple Generators},
  author = {Hoang, Quan and Nguyen, Tu Dinh and Le, Trung and Phung, Dinh},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2018},
  note = {arXiv:1708.02556}
}"""

OF_MODELS: Mapping[str, tuple[str, ...]] = {
    "gan": (GAN,),
    "mog": (HMOG,),
    "hmog": (HMOG,),
    "madgan": (MADGAN,),
    "madgan_sim": (MADGAN,),
    "mggan": (MGAN,),
    "megan": (MEGAN,),
    "megan_hidden": (MEGAN, HMOG),
}
"""By the name of the model; of a model of somebody's own, none is known."""
