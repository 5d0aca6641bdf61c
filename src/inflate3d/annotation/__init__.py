"""At the annotator's side: which case to label next, and which label map to check."""
