"""What an archive holds against what its ledger says: pure folds over frames and ledger lines."""
