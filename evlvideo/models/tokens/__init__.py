"""Operations on tokens: tensors in, tensors out."""
