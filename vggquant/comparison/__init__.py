"""What packed files have lost against their reference: the study, and the page and figure that show it."""
