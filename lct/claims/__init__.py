"""What the paper claims, and what each body of evidence says about it: noise between trainings, and judgements."""
