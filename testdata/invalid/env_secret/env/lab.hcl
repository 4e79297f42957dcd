password = "hunter2"
token    = hunter2
number   = 1 + "hunter2"
pasword  = "hunter2"
