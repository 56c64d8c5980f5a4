BUGS={}
