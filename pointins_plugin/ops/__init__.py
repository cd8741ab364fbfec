"""Operations on arrays and tensors that know nothing of models or hosts."""
