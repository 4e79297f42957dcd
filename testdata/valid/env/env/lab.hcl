name    = "lab"
lease   = "2h"
routers = [cidrhost("10.0.0.0/24", 1)]
secret  = "hunter2"
