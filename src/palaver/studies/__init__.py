"""What the study of any chapter needs: settings, the runner, result folders, statistics. It knows no chapter."""
