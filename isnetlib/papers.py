"""Where methods and data come from: what a reader may want to look up, by method and by experiment."""

METHOD_PAPERS = {
    "pipeline": "as in arXiv 2202.00232; U-Net: Ronneberger, Fischer & Brox, MICCAI 2015, arXiv 1505.04597",
    "multitask": "as in arXiv 2202.00232",
    "attention_gate": "Schlemper et al., Attention gated networks, Medical Image Analysis 53, 2019, arXiv 1808.08114",
    "gain": "Li et al., Tell me where to look, CVPR 2018, arXiv 1802.10171",
    "gain_ext": "Li et al., Tell me where to look, CVPR 2018, arXiv 1802.10171",
    "rrr": "Ross, Hughes & Doshi-Velez, IJCAI 2017, arXiv 1703.03717",
    "grad_input": "as in arXiv 2202.00232",
    "background_random": "ours",
    "vit": "Dosovitskiy et al., ICLR 2021, arXiv 2010.11929",
    "isnet_original": "Bassi, Dertkigil & Cavalli, Nature Communications 15, 291, 2024, arXiv 2202.00232",
    "isnet_selective": "Bassi, Decherchi & Cavalli, IEEE Access 12, 2024, arXiv 2401.08409",
    "isnet_stochastic": "Bassi, Decherchi & Cavalli, IEEE Access 12, 2024, arXiv 2401.08409",
}

# As the cards of `isnetlib.data.sources` have it, which need torch.
SOURCE_PAPERS = {
    "tbx11k": "Liu et al., Rethinking Computer-aided Tuberculosis Diagnosis, CVPR 2020",
    "nih": "Wang et al., ChestX-ray8, CVPR 2017",
    "shenzhen": "Jaeger et al., Quant. Imaging Med. Surg. 4(6), 2014; masks: Stirenko et al., ELNANO 2018",
    "ieee8023": "Cohen et al., COVID-19 Image Data Collection, arXiv:2003.11597 and 2006.11988, 2020",
    "hannover": "Winther et al., COVID-19 image repository, 2020, doi:10.6084/m9.figshare.12275009",
    "jsrt": "Shiraishi et al., AJR 174, 2000; van Ginneken, Stegmann, Loog, Medical Image Analysis 10, 2006",
    "celebamask_hq": "Lee et al., MaskGAN, CVPR 2020; Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
}
SOURCE_NAMES = {
    "tbx11k": "TBX11K",
    "nih": "NIH ChestX-ray14",
    "shenzhen": "Shenzhen",
    "ieee8023": "COVID-19 image data collection",
    "hannover": "Hannover",
    "jsrt": "JSRT",
    "celebamask_hq": "CelebAMask-HQ",
}
SOURCES_OF = {
    "tuberculosis": ("tbx11k", "nih", "shenzhen"),
    "tuberculosis_planted": ("shenzhen",),
    "covid": ("ieee8023", "nih", "hannover", "shenzhen", "jsrt"),
    **dict.fromkeys(("faces", "faces_planted", "faces_outside"), ("celebamask_hq",)),
}


def source_sentence(experiment: str) -> str:
    """Who published the images of an experiment; "" where they are drawn, or anybody's own."""
    if experiment == "digits":
        return "MNIST: LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE 86, 1998."
    found = [f"{SOURCE_NAMES[name]}: {SOURCE_PAPERS[name]}" for name in SOURCES_OF.get(experiment, ())]
    return f"Published by: {'. '.join(found)}." if found else ""


def after(method: str) -> str:
    """The paper of a method in brackets, to follow a sentence about it; "" where there is none."""
    return f" ({METHOD_PAPERS[method]})" if method in METHOD_PAPERS else ""
