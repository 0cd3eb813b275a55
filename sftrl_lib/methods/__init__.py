"""How a policy is trained: one file a method, and what is bent in TRL's trainers for all."""
