"""LoRA on the frozen language model: small trained matrices beside its own, by peft.

Source: Hu et al., ICLR 2022. They start as nothing, so that training starts from the model as it was.
"""

from transformers import PreTrainedModel

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.frozen import is_lora


def add_lora(language_model: PreTrainedModel, config: EvlVideoConfig) -> None:
    """Put LoRA into a language model, in place, where the architecture has some.

    Args:
        language_model: of any weights; what is added stays in float32 beside weights of other types.
        config: rank, scale, dropout and layers of the LoRA.

    Raises:
        UserError: the language model has no such layers.
    """
    if config.lora_r == 0:
        return
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_targets,
    )
    try:
        inject_adapter_in_model(lora, language_model)
    except ValueError as error:
        linear = sorted(
            {
                name.rpartition(".")[2]
                for name, module in language_model.named_modules()
                if hasattr(module, "in_features")
            }
        )
        raise UserError(
            f"LoRA finds no layers for lora_targets={config.lora_targets} in the language model: {error} Its linear "
            f"layers are {', '.join(linear)}."
        ) from error
    for name, weight in language_model.named_parameters():
        if is_lora(name):
            weight.data = weight.data.float()
