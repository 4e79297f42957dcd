exam_rows = ["d", "e"]
